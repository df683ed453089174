package settings

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Text is a setting that is any text.
func Text(to *string, byDefault string) pflag.Value {
	return made(func(f *pflag.FlagSet) { f.StringVar(to, "x", byDefault, "") })
}

// Switch is a setting that is on or off, and off by default.
func Switch(to *bool) pflag.Value {
	return made(func(f *pflag.FlagSet) { f.BoolVar(to, "x", false, "") })
}

// Number is a setting that is a whole number.
func Number(to *uint32, byDefault uint32) pflag.Value {
	return made(func(f *pflag.FlagSet) { f.Uint32Var(to, "x", byDefault, "") })
}

// Duration is a setting that is a time.
func Duration(to *time.Duration, byDefault time.Duration) pflag.Value {
	return made(func(f *pflag.FlagSet) { f.DurationVar(to, "x", byDefault, "") })
}

func made(add func(*pflag.FlagSet)) pflag.Value {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	add(f)
	return f.Lookup("x").Value
}

// List is a setting that is any number of texts, none by default. A flag may be
// repeated.
func List(to *[]string) pflag.Value { return &listValue{to: to} }

type listValue struct {
	to  *[]string
	set bool
}

func (l *listValue) Type() string   { return "list" }
func (l *listValue) String() string { return strings.Join(*l.to, ",") }

func (l *listValue) Set(text string) error {
	if !l.set {
		*l.to, l.set = nil, true
	}
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			*l.to = append(*l.to, one)
		}
	}
	return nil
}

// Size is a setting that is a number of bytes.
func Size(to *uint64, byDefault uint64) pflag.Value {
	*to = byDefault
	return (*sizeValue)(to)
}

type sizeValue uint64

// units of sizes, the largest first. KB is taken for what most people mean by it.
var units = []struct {
	name  string
	bytes uint64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

func (*sizeValue) Type() string { return "size" }

func (s *sizeValue) String() string {
	for _, u := range units[:4] {
		if v := uint64(*s); v > 0 && v%u.bytes == 0 {
			return strconv.FormatUint(v/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatUint(uint64(*s), 10)
}

func (s *sizeValue) Set(text string) error {
	number, unit := strings.TrimSpace(text), uint64(1)
	for _, u := range units {
		if n := len(number) - len(u.name); n > 0 && strings.EqualFold(number[n:], u.name) {
			number, unit = strings.TrimSpace(number[:n]), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > math.MaxUint64/unit {
		return fmt.Errorf("not a size: %q", text)
	}
	*s = sizeValue(n * unit)
	return nil
}
