// Package apiserver shows and sets which etcds this node's API server uses, and with which files.
package apiserver
