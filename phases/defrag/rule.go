package defrag

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// Rule says which members are worth it. It is written in expr, with the names that etcd-defrag has.
type Rule struct {
	text    string
	program *vm.Program
}

const ruleHint = "it may use dbSize, dbSizeInUse, dbSizeFree, dbQuota, dbQuotaUsage and the units KB, MB, GB, KiB, " +
	"MiB, GiB, as in 'dbQuotaUsage > 0.8 || dbSize - dbSizeInUse > 200*MiB'"

// facts are the variables of a rule, in bytes but for dbQuotaUsage, which is a share. Without a
// quota both dbQuota and dbQuotaUsage are 0.
func facts(size, inUse, quota int64) map[string]any {
	usage := 0.0
	if quota > 0 {
		usage = float64(size) / float64(quota)
	}
	return map[string]any{
		"dbSize": int(size), "dbSizeInUse": int(inUse), "dbSizeFree": int(size - inUse), "dbQuota": int(quota),
		"dbQuotaUsage": usage,
		"KB":           1000, "MB": 1000_000, "GB": 1000_000_000, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}
}

// ParseRule reads a rule; an error is a [*engine.UsageError].
func ParseRule(text string) (*Rule, error) {
	program, err := expr.Compile(text, expr.Env(facts(0, 0, 0)), expr.AsBool(), expr.DisableAllBuiltins())
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, &engine.UsageError{Reason: fmt.Sprintf("--when %q: %s", text, first), Hint: ruleHint}
	}
	return &Rule{text: text, program: program}, nil
}

// fires says whether a member's database is one that the rule is for.
func (r *Rule) fires(size, inUse, quota int64) (bool, error) {
	if r == nil {
		return true, nil
	}
	is, err := expr.Run(r.program, facts(size, inUse, quota))
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return false, &engine.UsageError{Reason: fmt.Sprintf("--when %q: %s", r.text, first), Hint: ruleHint}
	}
	return is.(bool), nil
}

// Reclaim is how much a member must be expected to become smaller.
type Reclaim struct {
	text    string
	percent float64
	bytes   float64
}

// ParseReclaim reads a share of the database, 10%, or a size, 200MiB.
func ParseReclaim(text string) (Reclaim, error) {
	r := Reclaim{text: text}
	number, isShare := strings.CutSuffix(text, "%")
	unit := 1.0
	if !isShare {
		for _, u := range []struct {
			name  string
			bytes float64
		}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}} {
			if cut, has := strings.CutSuffix(number, u.name); has {
				number, unit = cut, u.bytes
				break
			}
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(n >= 0) || n > 1<<53 || isShare && n > 100 {
		return r, &engine.UsageError{Reason: fmt.Sprintf("--min-reclaim %q is neither a share nor a size", text),
			Hint: "give it as 10% or 200MiB"}
	}
	if isShare {
		r.percent = n
	} else {
		r.bytes = n * unit
	}
	return r, nil
}

// enough says whether a database becomes smaller by that much.
func (r Reclaim) enough(size, gain int64) bool {
	return float64(gain) >= r.bytes && float64(gain) >= r.percent/100*float64(size)
}
