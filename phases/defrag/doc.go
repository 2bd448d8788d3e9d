// Package defrag has the members of a cluster rewrite their databases, one after the other. There
// is no run and no journal: nothing can be undone, and what a member has begun ends on its own.
package defrag
