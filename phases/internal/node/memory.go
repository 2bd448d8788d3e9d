package node

import (
	"os"
	"path"
	"strconv"
	"strings"
)

// MemoryFree is how many bytes processes may still take on this machine or, if that is less, in the
// cgroup that this one is in; 0: not known.
func MemoryFree() int64 { return memoryFree("/proc", "/sys/fs/cgroup") }

func memoryFree(proc, cgroups string) int64 {
	free := int64(0)
	for line := range strings.Lines(readText(path.Join(proc, "meminfo"))) {
		if kib, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(kib + " 0")[0], 10, 64)
			free = n << 10
		}
	}
	_, in, _ := strings.Cut(readText(path.Join(proc, "self/cgroup")), "0::")
	in, _, _ = strings.Cut(in, "\n")
	for at := path.Clean("/" + in); in != ""; at = path.Dir(at) {
		number := func(file string) (int64, bool) {
			n, err := strconv.ParseInt(strings.TrimSpace(readText(path.Join(cgroups, at, file))), 10, 64)
			return n, err == nil // "max" is no number
		}
		most, limited := number("memory.max")
		used, known := number("memory.current")
		used -= fileCache(readText(path.Join(cgroups, at, "memory.stat")))
		if limited && known && (free == 0 || most-used < free) {
			free = max(1, most-used)
		}
		if at == "/" {
			break
		}
	}
	return free
}

// fileCache is what a cgroup's memory.stat says that files take: the kernel takes it back.
func fileCache(stat string) int64 {
	for line := range strings.Lines(stat) {
		if n, ok := strings.CutPrefix(line, "file "); ok {
			cached, _ := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
			return cached
		}
	}
	return 0
}

func readText(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(data)
}
