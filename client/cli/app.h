// The whole command, in process.
#pragma once

#include "client/cli/exit_code.h"
#include "client/cli/terminal.h"

namespace lockstep::cli {

// Parses the command line, runs what it asks for, and says what happened. Never throws, never exits.
ExitCode Run(int argc, const char* const* argv, const Streams& streams);

}  // namespace lockstep::cli
