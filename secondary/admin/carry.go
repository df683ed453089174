package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/kistvault/kist/internal/durable"
	"github.com/kistvault/kist/secondary/archive"
	"github.com/kistvault/kist/secondary/engine"
)

// As with a backup, whoever asks reads and writes the file of an archive, with his
// rights, and the server streams what it has, or takes what is streamed.

// trailerResult is the HTTP trailer with what has come of an export that has begun: an
// [engine.Exported], or a refusal.
const trailerResult = "Kist-Result"

// headerSize is the HTTP header with about how many bytes an export will have.
const headerSize = "Kist-Size"

// export answers GET /export?vault=ID.
func (o *Operator) export(w http.ResponseWriter, r *http.Request) {
	id, err := o.find(r.Context(), r.URL.Query().Get("vault"))
	var t *engine.Tenant
	if err == nil {
		t, err = o.Engine.Tenant(r.Context(), id) // while a refusal can still be said as ever
	}
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", trailerResult)
	w.Header().Set(headerSize, strconv.FormatUint(t.Used.Bytes(), 10))
	w.WriteHeader(http.StatusOK)
	done, err := o.Engine.Export(r.Context(), id, archive.NewWriter(w))
	var result any = done
	if err != nil { // the asker also finds that the archive has no end
		result = refusalOf(err)
	}
	if text, err := json.Marshal(result); err == nil {
		w.Header().Set(trailerResult, string(text))
	}
}

// A Tell is told, one call after the other, how many bytes have been carried of how many;
// total is about right, and 0 where nobody knows. nil: nobody is told.
type Tell func(done, total uint64)

// telling is a reader that tells how far it was read.
type telling struct {
	io.Reader
	tell        Tell
	done, total uint64
}

func (t *telling) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if t.done += uint64(n); t.tell != nil {
		t.tell(t.done, t.total)
	}
	return n, err
}

// ExportTo writes an archive of a vault, whose id begins with a text, to w, and reads it
// as it goes by. An error says that what was written is to be thrown away.
func (c *Client) ExportTo(ctx context.Context, vault string, w io.Writer, tell Tell) (done engine.Exported, err error) {
	resp, err := c.request(ctx, http.MethodGet, "export?vault="+url.QueryEscape(vault), nil)
	if err != nil {
		return done, err
	}
	defer resp.Body.Close()
	size, _ := strconv.ParseUint(resp.Header.Get(headerSize), 10, 64) // 0: not known
	_, err = archive.Check(ctx, io.TeeReader(&telling{resp.Body, tell, 0, size}, w))
	text := resp.Trailer.Get(trailerResult)
	var no refusal
	switch {
	case text != "" && json.Unmarshal([]byte(text), &no) == nil && no.Error != "":
		err = errors.New(no.Error) // why it has no end
		if known := no.known(); known != nil {
			err = refused{known, no.Error}
		}
	case err == nil && text == "":
		err = io.ErrUnexpectedEOF
	case err == nil:
		err = json.Unmarshal([]byte(text), &done)
	}
	return done, err
}

// Export is ExportTo to a new file of mode 0600. The file has its name when it is whole,
// verified and durable; the error wraps fs.ErrExist where there is one of that name.
func (c *Client) Export(ctx context.Context, vault, path string, tell Tell) (done engine.Exported, err error) {
	if _, err := os.Lstat(path); err == nil {
		return done, fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	part := path + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return done, err
	}
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return done, err
	}
	done, err = c.ExportTo(ctx, vault, f, tell)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = rename(part, path)
	}
	if err != nil {
		return done, errors.Join(err, os.Remove(part))
	}
	return done, nil
}

// rename gives a synced file a name that is not taken.
func rename(from, to string) error {
	err := durable.RenameNoReplace(from, to)
	if errors.Is(err, errors.ErrUnsupported) {
		err = durable.Rename(from, to) // it was free a moment ago
	}
	return err
}

// An ImportQuestion says how an archive is to come in.
type ImportQuestion struct {
	Quota *engine.Quota `json:"quota"` // of its own; nil: the one that it brings, if any
}

// importVault answers POST /import?question=JSON, whose body is an archive.
func (o *Operator) importVault(w http.ResponseWriter, r *http.Request) {
	var q ImportQuestion
	err := json.Unmarshal([]byte(r.URL.Query().Get("question")), &q)
	var a Vault
	if err == nil {
		a, err = o.takeIn(r.Context(), q, r.Body)
	}
	if err != nil {
		_, _ = io.Copy(io.Discard, r.Body) // who sends it listens when all is sent
		refuse(w, err)
		return
	}
	reply(w, http.StatusOK, a)
}

func (o *Operator) takeIn(ctx context.Context, q ImportQuestion, r io.Reader) (v Vault, err error) {
	in := &incoming{Importing: o.Engine.Import(engine.ImportOptions{Bounded: true}), o: o, q: q}
	defer func() { err = errors.Join(err, in.Close(ctx)) }()
	if err := archive.Read(ctx, r, in); err != nil {
		return v, err
	}
	t, err := o.Engine.Tenant(ctx, in.w.Vault)
	if err != nil {
		return v, err
	}
	return o.vault(t), nil
}

// incoming is an import with what its operator wants.
type incoming struct {
	engine.Importing
	o *Operator
	q ImportQuestion
	w *engine.Whole
}

// Begin implements [engine.Taker]. Who brings a deleted vault in wants it, but whether
// devices are to be let in he has to say.
func (i *incoming) Begin(ctx context.Context, w *engine.Whole) error {
	i.w = w
	if w.State == engine.StateDeleted {
		w.State, w.Since = engine.StateSuspended, i.o.now()
	}
	if i.q.Quota != nil {
		w.Own = i.q.Quota
	}
	return i.Importing.Begin(ctx, w)
}

// Import brings the vault in that a file has an archive of. The file is read to its end
// before the server is asked: archive.ErrDamaged says that it is torn or altered, and
// engine.ErrExists that the vault is there.
func (c *Client) Import(ctx context.Context, path string, q ImportQuestion, tell Tell) (v Vault, err error) {
	f, err := os.Open(path)
	if err != nil {
		return v, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return v, err
	}
	told := &telling{f, tell, 0, 2 * uint64(info.Size())}
	if _, err := archive.Check(ctx, told); err != nil {
		return v, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return v, err
	}
	return c.importFrom(ctx, told, q)
}

// ImportFrom is Import of what can be read but once. The server alone finds that it is
// torn or altered, and then has taken nothing in.
func (c *Client) ImportFrom(ctx context.Context, r io.Reader, q ImportQuestion, tell Tell) (Vault, error) {
	return c.importFrom(ctx, &telling{r, tell, 0, 0}, q)
}

func (c *Client) importFrom(ctx context.Context, r io.Reader, q ImportQuestion) (v Vault, err error) {
	question, err := json.Marshal(q)
	if err != nil {
		return v, err
	}
	resp, err := c.send(ctx, http.MethodPost, "import?question="+url.QueryEscape(string(question)), r)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("asking the server: %w", err)
	}
	return v, nil
}
