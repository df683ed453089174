package agent

import (
	"encoding/json"
	"fmt"
)

// jsonCall is a Call as it is sent: JSON strings could not hold every byte.
type jsonCall struct {
	Args     [][]byte
	Dir      []byte
	Env      [][]byte
	Terminal [3]bool
	Width    int
}

func toBytes(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

func toStrings(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}

// marshal encodes a call. It fails where the command line is too long.
func (c *Call) marshal() ([]byte, error) {
	b, err := json.Marshal(jsonCall{toBytes(c.Args), []byte(c.Dir), toBytes(c.Env), c.Terminal, c.Width})
	if err == nil && len(b) > maxCall {
		err = fmt.Errorf("the command line is too long for the agent: %d bytes", len(b))
	}
	return b, err
}

func parseCall(b []byte) (*Call, error) {
	var j jsonCall
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("%w: %v", errProtocol, err)
	}
	return &Call{toStrings(j.Args), string(j.Dir), toStrings(j.Env), j.Terminal, max(j.Width, 0)}, nil
}

// question and answer are what Ask sends and gets.
type question struct {
	What string
	With []byte
}

type answer struct {
	With []byte
	Err  string // empty: none
}
