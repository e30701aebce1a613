package main
import ("github.com/spf13/cobra")
func newDoctor(io streams) *cobra.Command { return &cobra.Command{Use:"doctor"} }
