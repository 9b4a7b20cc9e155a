#!/bin/sh
# Says what it finds: the words of the environment, and what the build did.
echo "$GREETING"
cat built.txt
echo "files below $BOOKS, in lines of ls -R: $(ls -R "$BOOKS" | wc -l)"
[ -e /data/catalogue ] && echo "the old directory is still there" && exit 1
[ -e /data/obsolete ] && echo "the deleted directory is still there" && exit 1
exit 0
