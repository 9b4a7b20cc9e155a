#!/bin/busybox sh
# The first program of the machine, in the initramfs: loads the disks' modules, mounts the disks, and goes on with guest.sh.
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
for module in /modules/*.ko; do $bb insmod "$module" || $bb echo "cannot load $module"; done
$bb mount -t ext4 /dev/vda /root
$bb mount -t ext4 /dev/vdb /root/project
$bb mkdir -p /root/usr/lib/modules
$bb mount -t ext4 -o ro /dev/vdc /root/usr/lib/modules
$bb mount -t tmpfs -o mode=0755 run /root/run
$bb mkdir /root/run/lamella
$bb cp /job/* /root/run/lamella/
$bb umount /dev
exec $bb switch_root /root /bin/bash /run/lamella/guest.sh
