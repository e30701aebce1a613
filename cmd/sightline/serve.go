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

// ServeOptions say how an editor is reached.
type serveOptions struct {
	socket  int    // connect to this port of this machine instead of using stdio
	pipe    string // connect to this Unix socket instead
	logFile string
	verbose bool
}

func newServe(io streams) *cobra.Command {
	var o serveOptions
	var stdio bool
	var client int
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve an editor over the language server protocol",
		Long: `Speaks the language server protocol 3.17 over standard input and output. Editors start it;
messages for people go to the editor, logs to standard error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.socket != 0 && o.pipe != "" {
				return errors.New("--socket and --pipe exclude each other; give one")
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
	return cmd
}

// Serve runs one editor session to its end.
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
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(logTo, &slog.HandlerOptions{Level: level}))

	var conn io.ReadWriteCloser
	var err error
	switch {
	default:
		conn, err = rpc.Stdio()
	case o.socket != 0:
		conn, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", o.socket))
	case o.pipe != "":
		conn, err = net.Dial("unix", o.pipe)
	}
	if err != nil {
		return fmt.Errorf("connect to the editor: %w; it has to listen before it starts the server", err)
	}
	// A log line to an editor that is gone must not end the process. Ignoring the signal would be
	// handed on to the programs it starts; being told of it is not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	// An editor that is gone has its recording stopped; what was recorded is kept, however long that
	// takes.
	rec := &recorder{open: openStore, live: true, bound: true}
	defer rec.running.Wait()
	inspector := newInspector()
	defer inspector.close()
	code := rpc.Serve(ctx, conn, func(c rpc.Client) rpc.Server {
		return lspserver.New(c, lspserver.Config{
			Recorder:  rec,
			OpenStore: openStore,
			Version:   version().Version,
			Log:       log,
			LogFile:   o.logFile,
			Now:       time.Now,
			Import:    importFor,
			ReadFile:  readFileFor,
			Picture:   picture,
			Doctor:    func(context.Context) rpc.DoctorResult { return diagnose(openStore(".")).result() },
			Processes: processes,
			Process:   inspector.process,
		})
	}, rpc.Options{Log: log})
	if code != exitDone {
		return failure{} // the editor went away without saying goodbye, which the log tells
	}
	return nil
}
