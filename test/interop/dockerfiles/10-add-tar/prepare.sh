mkdir -p t/dir/empty t/many p
echo file > t/dir/file
ln t/dir/file t/dir/hard
ln -s file t/dir/soft
ln -s /absolute t/absolute
mkfifo t/dir/fifo
echo many > t/many/more
printf '#!/bin/sh\n' > t/dir/run
chmod 4711 t/dir/run
chmod 2750 t/dir/empty
chown -h 1234:4321 t/dir/file t/dir/soft t/dir/empty
head -c 100000 /dev/zero > t/dir/zeros
echo packed > p/packed
touch -h -d @900000000 t/dir/* t/dir t/many/more t/many t/absolute p/packed
tar -C t --sort=name --numeric-owner -cf plain.tar dir many absolute
tar -C p --sort=name --numeric-owner -czf packed.tar.gz packed
cp packed.tar.gz wrong-name.dat
rm -r t p
