// Package admin is how whoever runs a secondary tells it what to do: over a Unix
// socket in the data directory, with HTTP.
//
// A command of kistd asks the server that runs. Where none does, it takes the data
// directory itself and serves the socket for as long as its questions take. So
// there is one way, and a command cannot do another thing beside a server than
// without one.
//
// An [Operator] has what is to be administrated and answers; [Listen] serves it;
// [Client] asks. Each question is a POST with a JSON object, and so is its answer;
// GET /store streams the store.
//
// The socket has mode 0600, in a directory of mode 0700. On Linux the kernel is
// asked, too: besides the server's own user, root is let in.
package admin
