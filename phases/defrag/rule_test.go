package defrag

import (
	"errors"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
)

func TestRulesAreThoseOfEtcdDefrag(t *testing.T) {
	const mib = 1 << 20
	for text, want := range map[string]bool{
		"dbQuotaUsage > 0.8 || dbSize - dbSizeInUse > 200*MiB": true, // the second half
		"dbQuotaUsage > 0.8":                         false,
		"dbQuotaUsage == 0.5":                        true,
		"dbSizeFree >= 300*MiB":                      true,
		"dbSizeFree > 300*MiB":                       false,
		"dbSize > 500*MB and dbSize < 0.6*GiB":       true,
		"dbSize / dbQuota > 0.4":                     true,
		"dbSizeFree*100/dbSize > 50":                 true,
		"dbSize > 200*1024*1024 && dbQuota == 1*GiB": true,
		"KB == 1000 && KiB == 1024 && MB == 1000*KB && MiB == 1024*KiB && GB == 1000*MB && GiB == 1024*MiB": true,
		"not (dbSize > 1)": false,
		"true":             true,
	} {
		rule, err := ParseRule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if is, err := rule.fires(512*mib, 212*mib, 1024*mib); is != want || err != nil {
			t.Errorf("%s: %v, %v", text, is, err)
		}
	}
	without, err := ParseRule("dbQuota == 0 && dbQuotaUsage == 0")
	if err != nil {
		t.Fatal(err)
	}
	if is, err := without.fires(512*mib, 212*mib, 0); !is || err != nil {
		t.Errorf("without a quota: %v, %v", is, err)
	}
}

func TestRulesThatMakeNoSenseAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "--when",
		"dbsize > 1":          "unknown name dbsize",
		"dbSize":              "expected bool",
		"dbSize > 200*MiB ||": "unexpected token",
		"dbSize > 'much'":     "invalid operation",
		"dbQuotaUsage + 1":    "expected bool",
		"now().Year() > 1":    "unknown",
	} {
		_, err := ParseRule(text)
		var usage *engine.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") ||
			usage.Hint == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
	zero, err := ParseRule("dbSize % dbQuota == 1")
	if err != nil {
		t.Fatal(err)
	}
	var usage *engine.UsageError
	if _, err := zero.fires(1, 1, 0); !errors.As(err, &usage) {
		t.Errorf("dividing by nothing: %v", err)
	}
}

func TestWhatIsToBeReclaimed(t *testing.T) {
	for text, least := range map[string]int64{ // of a database of 1,000,000 bytes
		"10%": 100_000, "0%": 0, "0": 0, "2.5%": 25_000, "100KB": 100_000, "1KiB": 1024, "5000": 5000, "0.5MB": 500_000,
	} {
		r, err := ParseReclaim(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if !r.enough(1_000_000, least) || least > 0 && r.enough(1_000_000, least-1) {
			t.Errorf("%s is not %d", text, least)
		}
	}
	for _, text := range []string{"", "%", "ten", "-1%", "101%", "-5MB", "NaN", "Inf", "5 apples", "10%%"} {
		var usage *engine.UsageError
		if _, err := ParseReclaim(text); !errors.As(err, &usage) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
