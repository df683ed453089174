// Package certstest has a certificate authority for tests: as much of RFC 8555 as a
// client of one name uses. It looks at the name as a real one does, by TLS-ALPN-01
// or HTTP-01, and does not look at the client's signatures.
package certstest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// An Authority gives certificates for one name.
type Authority struct {
	Directory string         // its address
	Roots     *x509.CertPool // that verify what it gives

	domain string
	server *httptest.Server
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate

	mu        sync.Mutex
	kind      string // of challenge that is offered
	target    string // host:port that the name is taken to have
	thumb     string // of the account's key
	status    string // of the one authorization
	problem   error  // why it is invalid
	chain     []byte
	validated int
}

const token = "a-token-of-the-authority"

// NewAuthority starts an authority. It looks for the name at target, by the one kind
// of challenge: "tls-alpn-01" or "http-01".
func NewAuthority(t testing.TB, domain, kind, target string) *Authority {
	t.Helper()
	a := &Authority{domain: domain, kind: kind, target: target, status: "pending", Roots: x509.NewCertPool()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.Roots.AddCert(a.cert)
	a.mu.Lock() // who asks may have learnt the address outside of this process
	a.server = httptest.NewServer(http.HandlerFunc(a.answer))
	a.mu.Unlock()
	t.Cleanup(a.server.Close)
	a.Directory = a.server.URL + "/directory"
	return a
}

// Point says where the name is from now on.
func (a *Authority) Point(target string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.target = target
}

// Validated returns how often it has looked and found the name, and why it did not
// the last time.
func (a *Authority) Validated() (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.validated, a.problem
}

func (a *Authority) answer(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Replay-Nonce", rand.Text())
	w.Header().Set("Content-Type", "application/json")
	at := func(path string) string { return a.server.URL + path }
	say := func(status int, v map[string]any) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	switch r.URL.Path {
	case "/directory":
		say(200, map[string]any{
			"newNonce": at("/nonce"), "newAccount": at("/account"), "newOrder": at("/order"), "revokeCert": at("/revoke"), "keyChange": at("/change"),
			"meta": map[string]any{"termsOfService": at("/terms")},
		})
	case "/nonce":
	case "/account":
		if err := a.register(r); err != nil {
			say(400, map[string]any{"type": "urn:ietf:params:acme:error:malformed", "detail": err.Error()})
			return
		}
		w.Header().Set("Location", at("/account/1"))
		say(201, map[string]any{"status": "valid"})
	case "/order":
		a.status, a.chain = "pending", nil
		w.Header().Set("Location", at("/order/1"))
		say(201, a.order(at))
	case "/order/1":
		say(200, a.order(at))
	case "/authz/1":
		say(200, map[string]any{
			"status": a.status, "identifier": map[string]any{"type": "dns", "value": a.domain},
			"challenges": []any{a.challenge(at)},
		})
	case "/challenge/1":
		if a.status == "pending" {
			if a.problem = a.validate(); a.problem == nil {
				a.status = "valid"
				a.validated++
			} else {
				a.status = "invalid"
			}
		}
		say(200, a.challenge(at))
	case "/finalize/1":
		if err := a.issue(r); err != nil {
			say(400, map[string]any{"type": "urn:ietf:params:acme:error:badCSR", "detail": err.Error()})
			return
		}
		w.Header().Set("Location", at("/order/1"))
		say(200, a.order(at))
	case "/cert/1":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Write(a.chain)
	default:
		http.NotFound(w, r)
	}
}

func (a *Authority) challenge(at func(string) string) map[string]any {
	return map[string]any{"type": a.kind, "url": at("/challenge/1"), "token": token, "status": a.status}
}

func (a *Authority) order(at func(string) string) map[string]any {
	o := map[string]any{
		"status": a.status, "authorizations": []string{at("/authz/1")}, "finalize": at("/finalize/1"),
		"identifiers": []any{map[string]any{"type": "dns", "value": a.domain}},
	}
	switch {
	case a.chain != nil:
		o["status"], o["certificate"] = "valid", at("/cert/1")
	case a.status == "valid":
		o["status"] = "ready"
	}
	return o
}

// signed is a signed request (RFC 7515).
type signed struct {
	Protected string `json:"protected"`
	Payload   string `json:"payload"`
}

func open(r *http.Request) (head, payload []byte, err error) {
	var s signed
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		return nil, nil, err
	}
	head, err = base64.RawURLEncoding.DecodeString(s.Protected)
	if err != nil {
		return nil, nil, err
	}
	payload, err = base64.RawURLEncoding.DecodeString(s.Payload)
	return head, payload, err
}

// register notes the account's key.
func (a *Authority) register(r *http.Request) error {
	head, _, err := open(r)
	if err != nil {
		return err
	}
	var h struct {
		JWK struct{ Crv, Kty, X, Y string }
	}
	if err := json.Unmarshal(head, &h); err != nil {
		return err
	}
	k := h.JWK
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":%q,"kty":%q,"x":%q,"y":%q}`, k.Crv, k.Kty, k.X, k.Y)) // RFC 7638
	a.thumb = base64.RawURLEncoding.EncodeToString(sum[:])
	return nil
}

// validate looks at the name.
func (a *Authority) validate() error {
	want := token + "." + a.thumb
	if a.kind == "http-01" {
		r, err := http.NewRequest(http.MethodGet, "http://"+a.target+"/.well-known/acme-challenge/"+token, nil)
		if err != nil {
			return err
		}
		r.Host = a.domain + ":80"
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && strings.TrimSpace(string(b)) != want {
			err = fmt.Errorf("it answers %q", b)
		}
		return err
	}
	c, err := tls.Dial("tcp", a.target, &tls.Config{ServerName: a.domain, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer c.Close()
	state := c.ConnectionState()
	leaf := state.PeerCertificates[0]
	if state.NegotiatedProtocol != "acme-tls/1" || len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != a.domain {
		return fmt.Errorf("protocol %q, names %q", state.NegotiatedProtocol, leaf.DNSNames)
	}
	sum := sha256.Sum256([]byte(want))
	expect, err := asn1.Marshal(sum[:])
	if err != nil {
		return err
	}
	for _, e := range leaf.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) && e.Critical && bytes.Equal(e.Value, expect) {
			return nil
		}
	}
	return errors.New("the certificate does not hold the answer")
}

// issue signs a certificate for what a CSR asks.
func (a *Authority) issue(r *http.Request) error {
	_, payload, err := open(r)
	if err != nil {
		return err
	}
	var p struct{ CSR string }
	if err := json.Unmarshal(payload, &p); err != nil {
		return err
	}
	der, err := base64.RawURLEncoding.DecodeString(p.CSR)
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	if a.status != "valid" || len(csr.DNSNames) != 1 || csr.DNSNames[0] != a.domain {
		return fmt.Errorf("authorization %s, names %q", a.status, csr.DNSNames)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.cert, csr.PublicKey, a.key)
	if err != nil {
		return err
	}
	for _, der := range [][]byte{leaf, a.cert.Raw} {
		a.chain = append(a.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return nil
}

// Write writes a certificate for a name that nobody has signed, and its key, as PEM
// files.
func Write(t testing.TB, cert, key, name string) {
	t.Helper()
	certPEM, keyPEM := Generate(t, name)
	for path, data := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Generate makes a certificate for a name that nobody has signed, and its key.
func Generate(t testing.TB, name string) (certPEM, keyPEM []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}
