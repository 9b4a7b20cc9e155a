ln -s dir links/to-dir
ln -s dir/file links/to-file
ln -s /etc/passwd links/absolute
ln -s ../../../../up links/up
ln -s nowhere links/dangling
