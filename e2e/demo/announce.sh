#!/usr/bin/env bash
# What `make demo` will take, said before anything is built. The times were measured on 2 cores; the disk is that of all caches.
set -euo pipefail
if [ "${CLUSTER:-local}" = current ]; then
  where="your kubectl context, which is neither started nor stopped"
  first="first run about 20 minutes on 2 cores (Paddock and its images are built from source)"
  leaves="all of it installed; \`helm uninstall\` and \`kubectl delete\` remove it"
else
  where="a real Kubernetes on this machine, in a network namespace of its own"
  first="first run about 35 minutes on 2 cores (Kubernetes, containerd, Envoy Gateway and Paddock are built from source)"
  leaves="a running cluster; \`make demo-down\` removes it"
fi
cat <<TEXT
Brings up the operator, two database servers, two brokers and three tenants on $where,
and then plays a customer's afternoon there.
  time    $first,
          later runs under 3 minutes until all is up to date, and the match that is bet on (1 to 8 minutes)
  disk    about 20 GB of caches and images    memory  4 GiB while it runs, 8 GiB at most
  leaves  $leaves

TEXT
