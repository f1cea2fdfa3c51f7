#include "server/app/config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <istream>
#include <map>
#include <memory>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace lockstep::app {
namespace {

constexpr char kConfigFileVariable[] = "LOCKSTEP_CONFIG_FILE";
constexpr char kVersion[] = "lockstepd " LOCKSTEP_VERSION;

// Accepts "500ms", "10s", "1m30s".
std::string CheckDuration(const std::string& text) {
  absl::Duration duration;
  if (absl::ParseDuration(text, &duration) && duration > absl::ZeroDuration() && duration <= absl::Hours(24))
    return "";
  return absl::StrCat("'", text, "' is not a duration between 0 and 24h, such as 500ms, 10s or 1m30s");
}

std::string CheckRetention(const std::string& text) {
  absl::Duration duration;
  if (absl::ParseDuration(text, &duration) && duration >= absl::Hours(1) && duration <= absl::Hours(8760))
    return "";
  return absl::StrCat("'", text, "' is not a duration between 1h and 8760h, such as 24h or 168h");
}

std::string CheckListen(const std::string& text) {
  const size_t colon = text.rfind(':');
  uint32_t port = 0;
  if (colon != std::string::npos && colon > 0 && absl::SimpleAtoi(text.substr(colon + 1), &port) &&
      port <= 65535) {
    return "";
  }
  return absl::StrCat("'", text, "' is not host:port, such as 127.0.0.1:7420 or [::1]:7420");
}

// CLI11 asks the environment only for what the file left open. Lines of the file for options that the
// environment gives are dropped, so that the environment beats the file.
class FileBelowEnvironment : public CLI::ConfigBase {
 public:
  explicit FileBelowEnvironment(const CLI::App* app) : app_(app) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::vector<CLI::ConfigItem> items = CLI::ConfigBase::from_config(input);
    items.erase(std::remove_if(items.begin(), items.end(),
                               [this](const CLI::ConfigItem& item) {
                                 const CLI::Option* option = app_->get_option_no_throw("--" + item.name);
                                 return item.parents.empty() && option != nullptr &&
                                        !option->get_envname().empty() &&
                                        std::getenv(option->get_envname().c_str()) != nullptr;
                               }),
                items.end());
    return items;
  }

 private:
  const CLI::App* const app_;
};

absl::Duration ToDuration(const std::string& text) {
  absl::Duration duration;
  absl::ParseDuration(text, &duration);  // CheckDuration has accepted it
  return duration;
}

}  // namespace

absl::StatusOr<ParsedCommandLine> ParseCommandLine(int argc, const char* const* argv) {
  ParsedCommandLine parsed;
  Config& config = parsed.config;
  std::string gate_interval = "1s", drain_timeout = "10s", remote_valid_for = "5s", max_stream_age = "30m",
              evidence_retention = "168h", enrol_timeout = "10s", keepalive_time = "20s",
              keepalive_timeout = "10s";
  const std::map<std::string, StoreKind> stores = {{"rocksdb", StoreKind::kRocksDb},
                                                   {"memory", StoreKind::kMemory}};
  const std::map<std::string, LogLevel> levels = {{"debug", LogLevel::kDebug},
                                                  {"info", LogLevel::kInfo},
                                                  {"warning", LogLevel::kWarning},
                                                  {"error", LogLevel::kError}};

  CLI::App app(
      "The control plane of Lockstep: decides which side services read and write, from what they report.",
      "lockstepd");
  app.set_version_flag("--version", kVersion);
  app.footer(
      "Every option can also be given as LOCKSTEP_<OPTION> (LOCKSTEP_DATA_DIR) or as a line of the "
      "configuration file\n"
      "(data-dir = \"/var/lib/lockstep\"). A flag beats the environment, which beats the file.");
  // CLI11 does not look for the file's own name in the environment, and passes over a default file that is
  // missing.
  const char* const variable = std::getenv(kConfigFileVariable);
  const std::string default_file = variable == nullptr ? "" : variable;
  app.set_config("--config", default_file, "Configuration file: one `option = value` a line",
                 !default_file.empty())
      ->envname(kConfigFileVariable);
  app.config_formatter(std::make_shared<FileBelowEnvironment>(&app));
  app.allow_config_extras(CLI::config_extras_mode::error);

  app.add_option("--listen", config.listen, "gRPC address, host:port")
      ->envname("LOCKSTEP_LISTEN")
      ->check(CheckListen)
      ->capture_default_str();
  app.add_option("--http-address", config.http_address, "IP address of /metrics, /healthz and /readyz")
      ->envname("LOCKSTEP_HTTP_ADDRESS")
      ->check(CLI::ValidIPV4)
      ->capture_default_str();
  app.add_option("--http-port", config.http_port, "Port of the same; 0 takes any free one")
      ->envname("LOCKSTEP_HTTP_PORT")
      ->capture_default_str();
  app.add_option("--store", config.store, "Where state is kept: rocksdb, or memory (lost at exit)")
      ->envname("LOCKSTEP_STORE")
      ->transform(CLI::CheckedTransformer(stores, CLI::ignore_case))
      ->default_str("rocksdb");
  app.add_option("--data-dir", config.data_dir, "Directory of the rocksdb store; created when missing")
      ->envname("LOCKSTEP_DATA_DIR")
      ->capture_default_str();
  app.add_option("--gate-interval", gate_interval, "How often the gate looks at the evidence")
      ->envname("LOCKSTEP_GATE_INTERVAL")
      ->check(CheckDuration)
      ->capture_default_str();
  app.add_option("--evidence-retention", evidence_retention,
                 "How long telemetry is kept in buckets of 5 s, which is what `gate explain --at` and `gate "
                 "export` read. Evidence that\ngrows older begins anew at half the error probabilities; "
                 "totals and decision records stay. Up to 30 KiB a bucket and migration:\n3 GiB a week")
      ->envname("LOCKSTEP_EVIDENCE_RETENTION")
      ->check(CheckRetention)
      ->capture_default_str();
  app.add_option("--drain-timeout", drain_timeout, "How long SIGTERM waits for open calls")
      ->envname("LOCKSTEP_DRAIN_TIMEOUT")
      ->check(CheckDuration)
      ->capture_default_str();
  app.add_option("--max-enrolments-per-second", config.max_enrolments_per_second,
                 "Instances that may enrol in a second; more are told to come a little later")
      ->envname("LOCKSTEP_MAX_ENROLMENTS_PER_SECOND")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  app.add_option("--max-stream-age", max_stream_age,
                 "Instances are asked to enrol over a new stream after this long")
      ->envname("LOCKSTEP_MAX_STREAM_AGE")
      ->check(CheckDuration)
      ->capture_default_str();
  app.add_option("--enrol-timeout", enrol_timeout, "An instance's stream says who it is within this, or ends")
      ->envname("LOCKSTEP_ENROL_TIMEOUT")
      ->check(CheckDuration)
      ->capture_default_str();
  app.add_option("--keepalive-time", keepalive_time,
                 "After this long without a byte, a connection's other end is asked for a sign of life")
      ->envname("LOCKSTEP_KEEPALIVE_TIME")
      ->check(CheckDuration)
      ->capture_default_str();
  app.add_option("--keepalive-timeout", keepalive_timeout,
                 "Without one for this long the connection is closed")
      ->envname("LOCKSTEP_KEEPALIVE_TIMEOUT")
      ->check(CheckDuration)
      ->capture_default_str();
  app.add_flag("--restored-from-backup", config.restored_from_backup,
               "Give this once, when the data directory was restored from a backup: instances that have seen "
               "more than the backup follow it again")
      ->envname("LOCKSTEP_RESTORED_FROM_BACKUP");
  app.add_option("--remote-valid-for", remote_valid_for, "How long a unary routing decision may be acted on")
      ->envname("LOCKSTEP_REMOTE_VALID_FOR")
      ->check(CheckDuration)
      ->capture_default_str();
  app.add_option("--log-level", config.log_level, "debug, info, warning or error")
      ->envname("LOCKSTEP_LOG_LEVEL")
      ->transform(CLI::CheckedTransformer(levels, CLI::ignore_case))
      ->default_str("info");
  app.add_option("--port-file", config.port_file, "Write `grpc PORT` and `http PORT` here once both listen")
      ->envname("LOCKSTEP_PORT_FILE");

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.print_and_exit = app.help();
    return parsed;
  } catch (const CLI::CallForVersion&) {
    parsed.print_and_exit = absl::StrCat(kVersion, "\n");
    return parsed;
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(absl::StrCat(error.what(), "; see lockstepd --help"));
  }
  config.gate_interval = ToDuration(gate_interval);
  config.evidence_retention = ToDuration(evidence_retention);
  config.drain_timeout = ToDuration(drain_timeout);
  config.max_stream_age = ToDuration(max_stream_age);
  config.enrol_timeout = ToDuration(enrol_timeout);
  config.keepalive_time = ToDuration(keepalive_time);
  config.keepalive_timeout = ToDuration(keepalive_timeout);
  config.remote_valid_for = ToDuration(remote_valid_for);
  return parsed;
}

}  // namespace lockstep::app
