// What lockstepd is told: flags over LOCKSTEP_* environment variables over a configuration file over
// defaults.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/log.h"

namespace lockstep::app {

enum class StoreKind { kRocksDb, kMemory };

struct Config {
  std::string listen = "127.0.0.1:7420";   // gRPC, host:port; port 0 takes any free one
  std::string http_address = "127.0.0.1";  // an IP address
  uint16_t http_port = 7421;               // 0: any free one
  StoreKind store = StoreKind::kRocksDb;
  std::string data_dir = "lockstep-data";  // created when missing
  absl::Duration gate_interval = absl::Seconds(1);
  absl::Duration evidence_retention = absl::Hours(168);  // how long buckets of telemetry are kept
  absl::Duration drain_timeout = absl::Seconds(10);      // SIGTERM to closing what is still open
  absl::Duration remote_valid_for = absl::Seconds(5);    // how long a unary decision may be acted on
  int max_enrolments_per_second = 2000;  // more instances at once are told to come a little later
  absl::Duration max_stream_age = absl::Minutes(30);     // older streams are renewed
  absl::Duration enrol_timeout = absl::Seconds(10);      // for the first message of an instance's stream
  absl::Duration keepalive_time = absl::Seconds(20);     // of silence, then the other end is asked for life
  absl::Duration keepalive_timeout = absl::Seconds(10);  // for its answer, or the connection is closed
  bool restored_from_backup = false;                     // a new store epoch begins
  LogLevel log_level = LogLevel::kInfo;
  std::string port_file;  // the ports are written here once both doors listen; empty = nowhere
};

// What to do with the parsed command line.
struct ParsedCommandLine {
  Config config;
  // Set for --help and --version: print it to stdout and exit with 0.
  std::string print_and_exit;
};

// INVALID_ARGUMENT names the flag, variable or line of the file that is wrong, and what it should be.
absl::StatusOr<ParsedCommandLine> ParseCommandLine(int argc, const char* const* argv);

}  // namespace lockstep::app
