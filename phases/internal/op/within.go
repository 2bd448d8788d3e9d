package op

import (
	"encoding/json"
	"time"
)

// Within is how long an operation may wait by its own limits, all of them together; 0 when it has
// none.
func Within(o Op) time.Duration {
	body, err := json.Marshal(o)
	var fields any
	if err != nil || json.Unmarshal(body, &fields) != nil {
		return 0
	}
	return limits(fields)
}

// kubeletsOwn is what a [StartLimit] is called: it is the kubelet's, and nothing waits for it.
const kubeletsOwn = "start"

func limits(fields any) (sum time.Duration) {
	all, ok := fields.(map[string]any)
	if !ok {
		return 0
	}
	for name, value := range all {
		if name == kubeletsOwn {
			continue
		}
		if n, number := value.(float64); number && (name == "limit" || name == "timeout" || name == "grace") {
			sum += time.Duration(n)
		}
		sum += limits(value)
	}
	return sum
}
