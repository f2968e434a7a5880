// Package crowd is too much for a group coordinator, and must not be: 10,000
// groups, through a kill -9; 1,000 members who join one group at once; members who
// join and are never heard of again; members who heartbeat as fast as they can. The
// members are those of package groups/light.
package crowd
