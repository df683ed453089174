package keys_test

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kistvault/kist/keys"
)

// planted is what every secret in this test holds, so that it can be looked for
// in any output.
var planted = [32]byte(bytes.Repeat([]byte{0xc7, 0x3a}, 16))

// exported lists every exported type of package keys: those that hold a secret
// with a value of each, the others with nil. A type that is missing here fails
// the test.
func exported(t *testing.T) map[string]any {
	root := rootOf(t, planted[:])
	device, err := keys.NewDeviceSeed(planted).Keys()
	if err != nil {
		t.Fatal(err)
	}
	signing := keys.NewSigningKey(planted)
	return map[string]any{
		"Root":            root,
		"Authority":       keys.Authority{Sign: signing, Auth: signing},
		"SigningKey":      signing,
		"TagSecret":       keys.NewTagSecret(planted),
		"EpochSecret":     keys.NewEpochSecret(planted),
		"Epoch":           keys.Epoch{Number: 1, Secret: keys.NewEpochSecret(planted)},
		"NamespaceSecret": keys.NewNamespaceSecret(planted),
		"NamespaceEpoch":  keys.NamespaceEpoch{Number: 1, Secret: keys.NewNamespaceSecret(planted)},
		"DeviceSeed":      keys.NewDeviceSeed(planted),
		"DeviceKeys":      &keys.DeviceKeys{Sign: signing, Auth: signing, KEM: device.KEM, Local: keys.NewLocalKey(planted)},
		"LocalKey":        keys.NewLocalKey(planted),

		"VaultID": nil, "DeviceID": nil, "Tag": nil, "Purpose": nil, "VerifyKey": nil,
		"AuthorityKeys": nil, "DevicePublic": nil, "Certificate": nil, "ScopeEntry": nil,
	}
}

// TestSecretsAreNotPrinted puts each type that holds a secret through
// everything that turns values into text or bytes.
func TestSecretsAreNotPrinted(t *testing.T) {
	values := exported(t)
	for _, name := range exportedTypes(t) {
		if _, ok := values[name]; !ok {
			t.Errorf("type %s is not in this test: does it hold a secret?", name)
		}
	}
	device, _ := keys.NewDeviceSeed(planted).Keys()
	kem, _ := device.KEM.Bytes()
	values["DeviceKeys.KEM"] = device.KEM
	needles := [][]byte{planted[:], kem}
	for name, v := range values {
		if v == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for how, out := range printed(v) {
				for _, n := range needles {
					if where := shows(out, n); where != "" {
						t.Errorf("%s shows the secret %s: %q", how, where, out)
					}
				}
			}
		})
	}
}

// printed returns what becomes of v, on its own, in an exported field, in an
// unexported one, and behind pointers and interfaces.
func printed(v any) map[string]string {
	type outer struct{ Field any }
	type hidden struct{ field any }
	out := make(map[string]string)
	for what, v := range map[string]any{
		"value": v, "pointer": &v, "field": outer{v}, "pointer to field": &outer{v},
		"unexported field": hidden{v}, "slice": []any{v}, "map": map[string]any{"k": v},
		"error": fmt.Errorf("wrapped: %v", v),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%e", "%p", "%T", "%w"} {
			out["fmt "+verb+" "+what] = fmt.Sprintf(verb, v)
		}
		out["Sprint "+what] = fmt.Sprint(v)
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		out["slog "+what] = b.String()
		j, err := json.Marshal(v)
		out["json "+what] = fmt.Sprint(string(j), err)
		x, err := xml.Marshal(v)
		out["xml "+what] = fmt.Sprint(string(x), err)
		b.Reset()
		err = gob.NewEncoder(&b).Encode(v)
		out["gob "+what] = fmt.Sprint(b.String(), err)
	}
	if m, ok := v.(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		out["MarshalText"] = fmt.Sprint(string(b), err)
	}
	if m, ok := v.(encoding.BinaryMarshaler); ok {
		b, err := m.MarshalBinary()
		out["MarshalBinary"] = fmt.Sprint(string(b), err)
	}
	return out
}

// shows says in which form out contains a part of secret, or "".
func shows(out string, secret []byte) string {
	s := secret[:6] // a part of it would be enough
	forms := map[string]string{
		"raw":      string(s),
		"hex":      hex.EncodeToString(s),
		"decimals": strings.Trim(fmt.Sprint(s), "[]"),
		"commas":   strings.ReplaceAll(strings.Trim(fmt.Sprint(s), "[]"), " ", ", "),
		"go":       strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", s), "[]byte"), "{}"),
		"base64":   base64.StdEncoding.EncodeToString(s),
		"base64u":  base64.URLEncoding.EncodeToString(s),
		"quoted":   strings.Trim(fmt.Sprintf("%q", s), `"`),
		"spaced":   fmt.Sprintf("% x", s),
	}
	lower := strings.ToLower(out)
	for form, f := range forms {
		if strings.Contains(out, f) || strings.Contains(lower, strings.ToLower(f)) {
			return "as " + form
		}
	}
	return ""
}

// TestShows checks that the test above could fail.
func TestShows(t *testing.T) {
	type leaky struct{ b [32]byte }
	found := 0
	for _, out := range printed(leaky{planted}) {
		if shows(out, planted[:]) != "" {
			found++
		}
	}
	if found < 20 {
		t.Errorf("a type that hides nothing was noticed in %d outputs", found)
	}
}

func exportedTypes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() {
					names = append(names, ts.Name.Name)
				}
			}
		}
	}
	if len(names) < 10 {
		t.Fatalf("found %d types", len(names))
	}
	return names
}

// TestMarshalling checks that encoders fail and do not write something that
// looks like success.
func TestMarshalling(t *testing.T) {
	if b, err := json.Marshal(keys.GenerateRoot()); err == nil {
		t.Errorf("a root became %s", b)
	}
	if b, err := json.Marshal(struct{ K keys.SigningKey }{keys.GenerateSigningKey()}); err == nil {
		t.Errorf("a signing key became %s", b)
	}
	if got := fmt.Sprint(keys.GenerateRoot()); got != "[secret]" {
		t.Errorf("got %q", got)
	}
}
