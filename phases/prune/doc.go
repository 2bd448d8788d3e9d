// Package prune deletes what ended runs kept, when somebody asks for that. Nothing else in etcdpod
// deletes what a user had.
package prune
