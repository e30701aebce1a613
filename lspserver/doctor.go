package lspserver

import (
	"context"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

// doctor answers rpc.MethodDoctor.
func (s *server) doctor(ctx context.Context, _ noParams) (*rpc.DoctorResult, error) {
	if s.cfg.Doctor == nil {
		return nil, errState("this build of the server cannot tell what can be recorded: run \"sightline doctor\" in a terminal")
	}
	result := s.cfg.Doctor(ctx)
	if result.Engines == nil {
		result.Engines = []rpc.EngineInfo{} // clients take a list for granted
	}
	return &result, ctx.Err()
}

// processes answers rpc.MethodProcesses.
func (s *server) processes(ctx context.Context, _ noParams) ([]rpc.ProcessInfo, error) {
	if s.cfg.Processes == nil {
		return nil, errState("this build of the server cannot list processes: give sightline.record the \"pid\" of one")
	}
	all, err := s.cfg.Processes(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, errState("%v", err)
	case all == nil:
		all = []rpc.ProcessInfo{}
	}
	return all, nil
}
