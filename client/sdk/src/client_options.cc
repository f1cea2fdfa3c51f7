#include "client/sdk/src/client_options.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/domain/migration.h"

namespace lockstep::internal {
namespace {

constexpr size_t kMaxMigrations = 1000;
constexpr size_t kMaxServiceBytes = 63;
constexpr size_t kMaxInstanceIdBytes = 128;

bool IsInstanceIdChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         absl::string_view("._:-").find(c) != absl::string_view::npos;
}

}  // namespace

absl::Status ValidateOptions(const ClientOptions& options) {
  const auto wrong = [](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("ClientOptions::", what));
  };
  if (options.transport == nullptr) return wrong("transport is required; see MakeGrpcTransport");
  if (options.service.empty() || options.service.size() > kMaxServiceBytes) {
    return wrong(absl::StrCat("service must have 1 to ", kMaxServiceBytes, " characters"));
  }
  if (options.migrations.empty() || options.migrations.size() > kMaxMigrations) {
    return wrong(absl::StrCat("migrations must list 1 to ", kMaxMigrations, " names"));
  }
  if (options.instance_id.size() > kMaxInstanceIdBytes ||
      !std::all_of(options.instance_id.begin(), options.instance_id.end(), IsInstanceIdChar)) {
    return wrong(absl::StrCat("instance_id must have at most ", kMaxInstanceIdBytes,
                              " characters of [A-Za-z0-9._:-]"));
  }
  if (options.heartbeat_interval <= absl::ZeroDuration()) return wrong("heartbeat_interval must be positive");
  if (options.lease_ttl < 2 * options.heartbeat_interval)
    return wrong("lease_ttl must be at least two heartbeats");
  if (options.lease_ttl < domain::kMinLeaseTtl || options.lease_ttl > domain::kMaxLeaseTtl) {
    return wrong(absl::StrCat("lease_ttl must be from ", absl::FormatDuration(domain::kMinLeaseTtl), " to ",
                              absl::FormatDuration(domain::kMaxLeaseTtl)));
  }
  if (options.backoff_initial <= absl::ZeroDuration() || options.backoff_max < options.backoff_initial) {
    return wrong("backoff_initial must be positive and at most backoff_max");
  }
  if (options.telemetry_interval <= absl::ZeroDuration()) return wrong("telemetry_interval must be positive");
  if (options.max_pending_deltas < 16) return wrong("max_pending_deltas must be at least 16");
  if (options.executor == nullptr && options.executor_threads < 1)
    return wrong("executor_threads must be at least 1");
  if (options.clock == nullptr) return wrong("clock must not be null");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> MigrationNames(const ClientOptions& options) {
  std::vector<std::string> names;
  for (const std::string& name : options.migrations) {
    const absl::StatusOr<domain::MigrationId> id = domain::ParseMigrationName(name);
    if (!id.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("ClientOptions::migrations: '", name, "': ", id.status().message()));
    }
    names.push_back(domain::FullMigrationName(*id));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace lockstep::internal
