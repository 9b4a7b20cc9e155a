// The peer of the walk benchmark: filepath.Walk over the tree named by each line of input, answered by counts and sums.
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var entries, size int64
		err := filepath.Walk(lines.Text(), func(path string, info os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			entries++
			if info.Mode().IsRegular() {
				size += info.Size()
			}
			return nil
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(entries, size)
	}
}
