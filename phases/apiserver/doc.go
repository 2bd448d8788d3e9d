// Package apiserver shows and sets which etcds the API server of this node uses,
// and with which files.
package apiserver
