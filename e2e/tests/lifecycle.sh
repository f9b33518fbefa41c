# What the local cluster promises about its own life. Sourced by run.sh, which sets $name and $bin.
state=${XDG_STATE_HOME:-$HOME/.local/state}/paddock/clusters/$name
tunables() { sysctl kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes vm.overcommit_memory vm.panic_on_oom; }

# The sockets of the cluster's shims, as containerd has noted them.
sockets() { grep -ohs 'unix://[^"]*' "$state"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*/{address,bootstrap.json} | cut -c 8- | sort -u; }
# Whether a process runs. One that has ended and that its parent, or the machine's init, has not asked about yet does not.
runs() { grep -qs '^State:[^Z]*$' "/proc/$1/status"; }
# Processes in the cluster's control groups, or that have its folder on their command line.
processes() {
  local pid
  for pid in $({ grep -lsE "/paddock/$name(/| |\$)" /proc/[0-9]*/cgroup | cut -d / -f 3; pgrep -f -- "$state/"; } | sort -u); do
    ! runs "$pid" || printf '%s ' "$pid"
  done
}

remember_machine() { before=$(tunables); }

# Kills every process that `up` has started, at once, as an out-of-memory killer would: shims, containers and mounts are left.
# The next `up` must see that, clear it away and come up as from nothing.
crash_and_recover() {
  local record pid said killed=()
  seen=$(sockets || true)
  [ -n "$seen" ] || { echo "lifecycle: no shim's socket is noted: what is looked for?" >&2; return 1; }
  for record in "$state"/pid/*.json; do
    killed+=("$(grep -o '"pid":[0-9]*' "$record" | cut -d : -f 2)")
  done
  kill -KILL "${killed[@]}"
  # A process that is being killed still counts as one that runs.
  for pid in "${killed[@]}"; do
    timeout 30 bash -c "$(declare -f runs); while runs $pid; do sleep 0.1; done"
  done
  [ -n "$(processes)" ] || { echo "lifecycle: no container has survived its manager: nothing is there to clear away" >&2; return 1; }
  said=$("$bin/paddock-cluster" up --name "$name" 2>&1 >/dev/null | tee >(cat >&2)) || return 1
  grep -q 'clear away what an earlier run left' <<<"$said" || { echo "lifecycle: \`up\` took a dead cluster for a living one" >&2; return 1; }
}

# After `down`: says what is left of the cluster, and fails if anything is.
nothing_left() {
  local left=() socket
  [ ! -e "/run/netns/paddock-$name" ] || left+=("network namespace paddock-$name")
  [ -z "$(find /sys/fs/cgroup -maxdepth 3 -path "*/paddock/$name")" ] || left+=("control groups /paddock/$name")
  ! grep -q " $state/" /proc/self/mounts || left+=("mounts below $state")
  [ ! -e "$state" ] || left+=("$state")
  [ -z "$(processes)" ] || left+=("processes $(processes)")
  for socket in ${seen:-}; do
    [ ! -e "$socket" ] || left+=("socket $socket")
  done
  # The last cluster of the machine puts back what kubelets change on all of it.
  if [ -z "$(ls -A "$(dirname "$state")")" ]; then
    [ "$(tunables)" = "$before" ] || left+=("the kubelet's settings of the kernel: $(diff <(echo "$before") <(tunables) | tr '\n' ' ')")
    [ ! -e /var/lib/kubelet/device-plugins/kubelet.sock ] || left+=("the kubelet's socket")
  fi
  [ "${#left[@]}" = 0 ] || { printf 'lifecycle: left behind: %s\n' "${left[@]}" >&2; return 1; }
}
