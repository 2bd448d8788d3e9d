package engine

import (
	"fmt"
	"time"
)

// Size writes bytes as people read them. Nothing that is there is rounded to nothing.
func Size[N int64 | uint64](bytes N) string {
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes)/1024, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

// Seconds is a duration that JSON has as a number.
func Seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Age says how long ago something was, by this clock.
func Age(d time.Duration) string {
	switch {
	case d < -time.Minute:
		return "in the future"
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// Roughly writes a duration that is only estimated: in seconds, or in minutes if there are many.
func Roughly(d time.Duration) string {
	if d < 100*time.Second {
		return fmt.Sprintf("%d s", max(1, int(d.Round(time.Second).Seconds())))
	}
	return fmt.Sprintf("%d min", int((d + 30*time.Second).Minutes()))
}
