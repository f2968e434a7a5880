// Package devstack runs scripts/dev-setup.sh as a developer without a container engine does: the stack from packages, what watches it included, in a
// folder of its own and on free ports, with a broker that joins it by the environment file alone.
package devstack
