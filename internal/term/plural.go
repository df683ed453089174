package term

import "strconv"

// Plural returns a number with what it counts: "1 change", "2 changes".
func Plural[N int | int64 | uint32 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatUint(uint64(n), 10) + " " + many
}
