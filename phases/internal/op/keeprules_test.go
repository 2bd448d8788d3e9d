package op

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRulesKeepTheNewestOfEachPeriod(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	now := at("2026-03-02T12:00:00Z")
	taken := []time.Time{at("2026-03-02T11:50:00Z"), at("2026-03-02T11:10:00Z"), at("2026-03-02T10:00:00Z"),
		at("2026-03-01T23:00:00Z"), at("2026-02-28T23:30:00+01:00"), at("2026-02-15T00:00:00Z"),
		at("2025-12-31T00:00:00Z"), at("2026-03-03T00:00:00Z")}
	for _, c := range []struct {
		rules KeepRules
		stay  string // one letter for each: x stays
	}{
		{KeepRules{Last: 2}, "xx.....x"},
		{KeepRules{Hourly: 2}, "x.x....x"},
		{KeepRules{Daily: 3}, "x..xx..x"},
		{KeepRules{Weekly: 2}, "x..x...x"}, // the 2nd of March is a Monday
		{KeepRules{Monthly: 9}, "x...x.xx"},
		{KeepRules{Within: 2 * time.Hour}, "xxx....x"},
		{KeepRules{Last: 1, Monthly: 2}, "x...x..x"},
	} {
		got := ""
		for _, why := range c.rules.Why(taken, now) {
			got += map[bool]string{true: "x", false: "."}[len(why) > 0]
		}
		if got != c.stay {
			t.Errorf("%+v: %s, and not %s", c.rules, got, c.stay)
		}
	}
}

// Whatever the rules and the backups: the newest stays, more of any rule never lets more go, the
// order does not matter, and applying the rules again deletes nothing more.
func TestWhatRulesPromise(t *testing.T) {
	now := time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		rules := KeepRules{Last: r.IntN(4), Hourly: r.IntN(4), Daily: r.IntN(4), Weekly: r.IntN(3), Monthly: r.IntN(3),
			Within: time.Duration(r.IntN(3)) * 20 * time.Hour}
		var taken []time.Time
		for range r.IntN(30) {
			taken = append(taken, now.Add(-time.Duration(r.Int64N(int64(120*24*time.Hour)))+2*time.Hour))
		}
		stays := func(rules KeepRules, taken []time.Time) (stay []time.Time) {
			for i, why := range rules.Why(taken, now) {
				if len(why) > 0 {
					stay = append(stay, taken[i])
				}
			}
			slices.SortFunc(stay, time.Time.Compare)
			return stay
		}
		stay := stays(rules, taken)
		if len(taken) > 0 {
			newest := slices.MaxFunc(taken, time.Time.Compare)
			if !slices.Contains(stay, newest) {
				t.Fatalf("seed %d: %+v lets the newest go", seed, rules)
			}
		}
		if again := stays(rules, stay); !slices.Equal(again, stay) {
			t.Fatalf("seed %d: %+v lets more go when it is applied again", seed, rules)
		}
		mixed := slices.Clone(taken)
		r.Shuffle(len(mixed), func(a, b int) { mixed[a], mixed[b] = mixed[b], mixed[a] })
		if other := stays(rules, mixed); !slices.Equal(other, stay) {
			t.Fatalf("seed %d: the order matters", seed)
		}
		more := rules
		more.Daily, more.Last = more.Daily+1, more.Last+1
		for _, one := range stay {
			if !slices.Contains(stays(more, taken), one) {
				t.Fatalf("seed %d: more of a rule lets %s go", seed, one)
			}
		}
		if limit := rules.Last + rules.Hourly + rules.Daily + rules.Weekly + rules.Monthly + 1; rules.Within == 0 {
			counted := 0
			for _, why := range rules.Why(taken, now) {
				if len(why) > 0 && !strings.HasPrefix(why[0], "dated") {
					counted++
				}
			}
			if counted > limit {
				t.Fatalf("seed %d: %d stay, of at most %d", seed, counted, limit)
			}
		}
	}
}
