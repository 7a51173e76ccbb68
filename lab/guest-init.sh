#!/bin/busybox sh
# shellcheck shell=dash
# The guest's first process. The results go to the second serial port, where the kernel prints nothing.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/order
ip link set lo up
ulimit -n 65536 # as a distribution's first process allows
[ ! -e /proc/sys/kernel/unprivileged_userns_clone ] || echo 1 >/proc/sys/kernel/unprivileged_userns_clone
stty -F /dev/ttyS1 raw
exec >/dev/ttyS1
echo "== kernel $(uname -r)"
sh /main
echo "== end"
sleep 1
poweroff -f
