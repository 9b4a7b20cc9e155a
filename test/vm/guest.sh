# The init of the machine, run by initramfs.sh with the disks mounted: sets up what a test may expect of a host, runs the
# job that job.sh sets, and powers off. The report goes to the first port of the virtio serial device; its last line is
# `exit STATUS`. What else is said goes to the console. Where job.sh names systemd, that is made the init, and this is run
# once more, as a service.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C TERM=linux
. /run/lamella/job.sh
if [ $$ = 1 ]; then
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  mount -t devtmpfs dev /dev
  mkdir -p /dev/pts /dev/shm
  mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
  mount -t tmpfs shm /dev/shm
  mkdir -p /run/lock/lvm
  mount -t cgroup2 cgroup /sys/fs/cgroup
  exec </dev/null >/dev/ttyS0 2>&1
  ln -sf /proc/self/fd /dev/fd
  hostname lamella-vm
  ip link set lo up
  mount --make-rshared /
  printf '%s\n' "${module_options[@]}" >/etc/modprobe.d/lamella.conf
  # What no mount loads by itself.
  modprobe -a loop overlay fuse dm-mod dm-thin-pool dm-snapshot
  if [ "$init" = systemd ]; then
    mkdir -p /run/systemd/system
    printf '%s\n' '[Service]' Type=oneshot 'ExecStart=/bin/bash /run/lamella/guest.sh' \
      StandardOutput=file:/dev/ttyS0 StandardError=inherit >/run/systemd/system/lamella-job.service
    exec /lib/systemd/systemd --unit=lamella-job.service
  fi
fi

# No udev runs here; the tools make the device nodes themselves.
export DM_DISABLE_UDEV=1

cd /project
if [ -n "$shell" ]; then
  stty -F /dev/ttyS0 rows "${shell% *}" columns "${shell#* }"
  echo "${command[*]} WORD... runs tests; exit ends the machine"
  setsid -c bash -l </dev/ttyS0 >/dev/ttyS0 2>&1
else
  report=$(echo /dev/vport*p1)
  "${command[@]}" >"$report" 2>&1
  status=$?
  if [ $status = 0 ] && [ -e /reboot-wanted ]; then
    rm /reboot-wanted
    for key in s u b; do echo $key >/proc/sysrq-trigger; sleep 1; done
    sleep 60
  fi
  echo "exit $status" >"$report"
fi
# Everything on the disks is thrown away: no need to unmount.
echo o >/proc/sysrq-trigger
sleep 60
