#!/bin/bash
# In the guest: the package in /ctl/enlace.deb is installed while systemd runs, and its service does what it is for.
# Facts are printed as "name: value"; the last thing it does is to stop.
set -e
# Emulation is slow: what is tried is whether it works.
mkdir -p /etc/systemd/system/enlace.service.d
printf '[Service]\nTimeoutStartSec=1800\nWatchdogSec=0\nTimeoutStopSec=300\n' >/etc/systemd/system/enlace.service.d/slow.conf
# dpkg leaves a configuration that is there as it is; the user whom it shall belong to comes with the package.
mkdir -p /etc/enlace
cp /ctl/site.yaml /etc/enlace/site.yaml
from=$SECONDS
dpkg -i /ctl/enlace.deb >&2
echo "installed: $((SECONDS - from)) s"
cangen vcan0 -g 200 -I 1A0 -L 7 -D r &
until [ "$(systemctl is-active enlace)" = active ]; do
    systemctl -q is-failed enlace && { journalctl -u enlace --no-pager | tail -n 40 >&2; exit 1; }
    [ $((SECONDS - from)) -lt 2400 ] || { systemctl status enlace >&2; exit 1; }
    sleep 2
done
echo "ready: $((SECONDS - from)) s after the installation began"
echo "machine: $(uname -m)"
echo "version: $(enlace --version)"
echo "service: $(systemctl is-active enlace)"
health() {
    exec 3<>/dev/tcp/127.0.0.1/8080
    printf 'GET /api/system/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
    head -n 1 <&3 | tr -d '\r'
    exec 3<&-
}
echo "health: $(health)"
# What was read is committed within seconds.
sleep 60
systemctl stop enlace
echo "stopped: $(systemctl is-active enlace || true) $(systemctl show -P Result enlace)"
values=$(/opt/enlace/current/bin/python3 -c '
from pathlib import Path
from agent.core.clock import SystemClock
from agent.store.db import Store
store = Store.open(Path("/var/lib/enlace/enlace.db"), SystemClock())
print(sum(value is not None for _, _, value in store.rows(store.ids_of("bms", "voltage_v"), 0, 1 << 62)))')
echo "values: $values"
