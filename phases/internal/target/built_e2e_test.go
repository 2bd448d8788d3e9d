//go:build e2e

package target

const mustBuild = true
