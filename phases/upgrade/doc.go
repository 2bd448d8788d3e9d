// Package upgrade looks ahead at an upgrade of etcd: whether it would end well, and what would have
// to be done first. It changes nothing.
//
// Each node says what it is like (Seen), the members say what they are (members.Ask), and from both
// a Plan is judged for each version: who carries out an upgrade judges by the same.
package upgrade
