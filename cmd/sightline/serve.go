package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// ServeOptions say how an editor is reached, and who serves it.
type serveOptions struct {
	socket   int    // connect to this port of this machine instead of using stdio
	pipe     string // connect to this Unix socket instead
	logFile  string
	verbose  bool
	noDaemon bool          // serve in this process
	idle     time.Duration // of a daemon that has to be started
}

func newServe(io streams) *cobra.Command {
	var o serveOptions
	var stdio bool
	var client int
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve an editor over the language server protocol",
		Long: `Speaks the language server protocol 3.17 over standard input and output. Editors start it;
messages for people go to the editor, logs to standard error.

The work is done by a daemon that all editors of the user share; it is started when there is none,
and ends when nobody has needed it for a while. See sightline daemon --help.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.socket != 0 && o.pipe != "" {
				return errors.New("--socket and --pipe exclude each other; give one")
			}
			if o.idle <= 0 {
				return fmt.Errorf("--idle %s is no time to wait", o.idle)
			}
			return serve(cmd.Context(), io, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&stdio, "stdio", true, "use standard input and output (the default; editors like to say it)")
	f.IntVar(&o.socket, "socket", 0, "connect to the editor on this `port` of 127.0.0.1")
	f.StringVar(&o.pipe, "pipe", "", "connect to the editor on this Unix `socket`")
	f.IntVar(&client, "clientProcessId", 0, "the editor's process `id`; accepted because clients pass it")
	f.StringVar(&o.logFile, "log", "", "write the log to this `file` instead of standard error")
	f.BoolVar(&o.verbose, "verbose", false, "log every request")
	f.BoolVar(&o.noDaemon, "no-daemon", false, "serve in this process, without a daemon, as SIGHTLINE_NO_DAEMON=1 does")
	f.DurationVar(&o.idle, "idle", daemonIdle, "a daemon that is started ends after so long without anything to do")
	return cmd
}

// Serve serves one editor to its end: through the daemon, or in this process where there is none and
// none can be started, which is said.
func serve(ctx context.Context, streams streams, o serveOptions) error {
	logTo := streams.err
	if o.logFile != "" {
		f, err := os.OpenFile(o.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("log file: %w", err)
		}
		defer f.Close()
		logTo = f
		if o.logFile, err = filepath.Abs(o.logFile); err != nil { // told to editors, which run elsewhere
			return fmt.Errorf("log file: %w", err)
		}
	}
	// A log line to an editor that is gone must not end the process. Ignoring the signal would be
	// handed on to the programs it starts; being told of it is not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	notice := ""
	if !o.noDaemon && !noDaemon() {
		conn, err := reachSession(o)
		if err == nil {
			return forward(ctx, conn, o, logTo)
		}
		notice = fmt.Sprintf("Sightline serves this editor without a daemon, so nothing is shared with others: %v", err)
		fmt.Fprintln(logTo, "sightline: "+notice)
	}
	conn, err := editorOf(o)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(logTo, &slog.HandlerOptions{Level: level}))
	// An editor that is gone has its recording stopped; what was recorded is kept, however long that
	// takes.
	rec := &recorder{open: (*surroundings)(nil).storeAt, live: true, bound: true}
	defer rec.running.Wait()
	inspector := newInspector((*surroundings)(nil).folder)
	defer inspector.close()
	cfg := sessionConfig(nil, rec)
	cfg.Process = inspector.process
	cfg.Log, cfg.LogFile, cfg.Notice = log, o.logFile, notice
	code := rpc.Serve(ctx, conn, func(c rpc.Client) rpc.Server { return lspserver.New(c, cfg) }, rpc.Options{Log: log})
	if code != exitDone {
		return failure{} // the editor went away without saying goodbye, which the log tells
	}
	return nil
}

// EditorOf is the connection to the editor.
func editorOf(o serveOptions) (conn io.ReadWriteCloser, err error) {
	switch {
	default:
		conn, err = rpc.Stdio()
	case o.socket != 0:
		conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", o.socket))
	case o.pipe != "":
		conn, err = net.Dial("unix", o.pipe)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the editor: %w; it has to listen before it starts the server", err)
	}
	return conn, nil
}

// SessionConfig is what a server of one editor needs, in the surroundings of that editor.
func sessionConfig(around *surroundings, rec *recorder) lspserver.Config {
	return lspserver.Config{
		Recorder:  rec,
		OpenStore: around.openStoreAtOnce,
		General:   around.openGeneral,
		FindPaths: around.findPaths,
		Version:   version().Version,
		Now:       time.Now,
		Import:    around.importFor,
		ReadFile:  readFileFor,
		Picture:   picture,
		Doctor: func(context.Context) rpc.DoctorResult {
			return diagnose(around.storeAt(around.folder())).result()
		},
		Processes: processes,
	}
}
