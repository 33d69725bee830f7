# Runs in the emulated machine, as its first process: lays control groups out as systemd does, then
# checks what belljar makes of each case. Its last line says how many checks failed.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
failed=0

check() { # name, wanted, got
    if [ "$2" = "$3" ]; then
        echo "v2: ok      $1"
    else
        echo "v2: FAILED  $1: wanted <$2>, got <$3>"
        failed=$((failed + 1))
    fi
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /usr/local/bin /usr/local/lib /home/user /root
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
depmod
busybox ip link set lo up
busybox hostname jar
cp /usr/share/base-passwd/passwd.master /etc/passwd
cp /usr/share/base-passwd/group.master /etc/group
echo 'user:x:1000:1000::/home/user:/bin/sh' >>/etc/passwd
echo 'user:x:1000:' >>/etc/group
chown 1000:1000 /home/user
echo "v2: Linux $(uname -r)"

# As systemd lays them out: a session of root, one of an ordinary user, and that user's own manager,
# to which a subtree is delegated by giving away its directory and three of its files.
groups=/sys/fs/cgroup
users=user.slice/user-1000.slice
manager=$users/user@1000.service
give() { # directory, controllers
    mkdir -p "$groups/$1"
    echo "$2" >"$groups/$1/cgroup.subtree_control"
}
all='+cpu +memory +pids'
give . "$all"
give user.slice "$all"
give user.slice/user-0.slice "$all"
give $users "$all"
mkdir $groups/user.slice/user-0.slice/session-1.scope $groups/$users/session-2.scope
mkdir $groups/$manager
for file in '' cgroup.procs cgroup.subtree_control cgroup.threads; do
    chown 1000:1000 "$groups/$manager/$file"
done
as_user() {
    setpriv --reuid 1000 --regid 1000 --clear-groups env -i PATH="$PATH" LANG="$LANG" \
        HOME=/home/user USER=user "$@"
}
as_root() { env HOME=/root "$@"; }
as_user sh -c "cd $groups/$manager && mkdir app.slice app.slice/run.scope &&
    echo '$all' >cgroup.subtree_control && echo '$all' >app.slice/cgroup.subtree_control"

# A command of `belljar`, by someone, from a group: its output, its messages, its exit code.
from() { # group, user, command...
    group=$1 who=$2
    shift 2
    (echo 0 >"$groups/$group/cgroup.procs" && cd / && $who "$@" 2>&1; echo "exit $?")
}
jar=/opt/belljar/belljar
hog='x = []
while True: x.append(b"x" * (1 << 20))'
made() { find $groups -name 'belljar-*' -type d; }
# What the groups of the only run that is alive hold.
values() {
    for _ in $(seq 100); do
        [ -z "$(made)" ] || break
        sleep 0.1
    done
    sleep 0.5
    cd "$(made)" && cat memory.max memory.swap.max pids.max cpu.max && dirname "$PWD"
    cd /
}

held() { # name, group, user, directory in which groups are to be made
    echo "v2: case    $1"
    check "$1: doctor" 'limits held cgroup v2' \
        "$(from "$2" "$3" $jar doctor | grep '^limits' | tr -s ' ')"
    check "$1: proof" 'proof held' \
        "$(from "$2" "$3" $jar doctor | grep '^proof' | tr -s ' ' | cut -d' ' -f1,2)"
    from "$2" "$3" $jar run --limit memory=64M,pids=20,cpu=0.5 -- sleep 60 >/dev/null &
    check "$1: values" "67108864 0 20 50000 100000 $groups/$4" "$(values | xargs)"
    busybox kill -9 $(cat "$groups/$2/cgroup.procs")
    wait
    check "$1: a killed belljar leaves a group" 1 "$(made | wc -l)"
    from "$2" "$3" $jar runs >/dev/null
    check "$1: the next command removes it" 0 "$(made | wc -l)"
    check "$1: memory" 'belljar: the limit `memory` was reached exit 124' \
        "$(from "$2" "$3" $jar run --limit memory=64M -- python3 -c "$hog" | xargs)"
    check "$1: own group inside" '0::/ exit 0' \
        "$(from "$2" "$3" $jar run -- cat /proc/self/cgroup | xargs)"
    # An emulated machine is too slow to reach the rate at which connections are dropped.
    from "$2" "$3" /opt/belljar/deps/sandbox --test-threads=2 \
        --skip escape_network_connection_table | tee /tmp/said
    check "$1: the sandbox's tests" 'exit 0' "$(tail -n 1 /tmp/said)"
    check "$1: left behind" 0 "$(made | wc -l)"
}

held root user.slice/user-0.slice/session-1.scope as_root user.slice/user-0.slice
held delegated $manager/app.slice/run.scope as_user $manager/app.slice

echo 'v2: case    delegated without cpu'
scope=$manager/app.slice/run.scope
take() { as_user sh -c "echo -cpu >$groups/$1/cgroup.subtree_control"; }
take $manager/app.slice
from $scope as_user $jar run --limit cpu=0.5 -- sleep 5 >/tmp/said &
check 'without cpu nearby: the directory above is taken' $groups/$manager "$(values | tail -n 1)"
wait
check 'without cpu nearby: the run' 'exit 0' "$(tail -n 1 /tmp/said)"
take $manager
check 'without cpu: doctor' 'limits weaker cgroup v2' \
    "$(from $scope as_user $jar doctor | grep '^limits' | tr -s ' ')"
check 'without cpu: other limits' 'exit 0' \
    "$(from $scope as_user $jar run --limit memory=64M,pids=20 -- true)"
refused=$(from $scope as_user $jar run --limit cpu=0.5 -- true)
check 'without cpu: the limit is refused' 'CPU time cannot be limited here exit 125' \
    "$(echo "$refused" | grep -o 'CPU time cannot be limited here\|^exit.*' | xargs)"
check 'without cpu: left behind' 0 "$(made | wc -l)"

echo 'v2: case    not delegated'
scope=$users/session-2.scope
check 'not delegated: doctor' 'limits weaker resource limits' \
    "$(from $scope as_user $jar doctor | grep '^limits' | tr -s ' ')"
# Python finds no memory, and ends by itself.
check 'not delegated: memory' 'exit 1' \
    "$(from $scope as_user $jar run --limit memory=64M -- python3 -c "$hog" | tail -n 1)"
from $scope as_user /opt/belljar/deps/sandbox --test-threads=2 escape_limits escape_cgroup life |
    tee /tmp/said
check "not delegated: the sandbox's tests" 'exit 0' "$(tail -n 1 /tmp/said)"
check 'not delegated: left behind' 0 "$(made | wc -l)"

echo "v2: $(cut -d' ' -f1 /proc/uptime) s since the boot"
echo "v2: failed $failed"
busybox poweroff -f
