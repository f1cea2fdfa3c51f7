#include "client/examples/cities/backfill.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"
#include "core/base/status_macros.h"

namespace lockstep::examples {
namespace {

constexpr size_t kMaxRefusals = 5;
// How long a wait for the rate may ignore the stop flag.
constexpr absl::Duration kLongestNap = absl::Milliseconds(50);

bool Stopped(const BackfillOptions& options) { return options.stop != nullptr && options.stop->load(); }

void WaitForRate(const BackfillOptions& options, absl::Duration started, int64_t rows_read) {
  if (options.rows_per_second <= 0) return;
  const absl::Duration due =
      started + absl::Seconds(static_cast<double>(rows_read) / options.rows_per_second);
  while (!Stopped(options)) {
    const absl::Duration left = due - options.clock->SinceBoot();
    if (left <= absl::ZeroDuration()) return;
    options.sleep(std::min(left, kLongestNap));
  }
}

// Maps one batch; what can't be mapped is counted and left out.
std::vector<ModernRow> MapBatch(const std::vector<LegacyRow>& rows, MapperVersion mapper,
                                BackfillProgress* progress) {
  std::vector<ModernRow> mapped;
  mapped.reserve(rows.size());
  for (const LegacyRow& row : rows) {
    ModernRow out{.id = row.id, .stamp = {.version = row.version, .mapper = mapper}};
    if (row.city.has_value()) {
      auto city = MapCity(mapper, *row.city);
      if (!city.ok()) {
        ++progress->rows_refused;
        if (progress->first_refusals.size() < kMaxRefusals) {
          progress->first_refusals.emplace_back(city.status().message());
        }
        continue;
      }
      out.city = *std::move(city);
    }
    mapped.push_back(std::move(out));
  }
  return mapped;
}

}  // namespace

absl::StatusOr<BackfillProgress> Backfill(LegacyStore& legacy, ModernStore& modern,
                                          const BackfillOptions& options) {
  LOCKSTEP_CHECK(options.batch_rows >= 1, "an empty batch makes no progress");
  LOCKSTEP_CHECK(options.first_id >= 1, "ids start at 1");
  const absl::Duration started = options.clock->SinceBoot();
  BackfillProgress progress{.last_id = options.first_id - 1};
  while (true) {
    if (Stopped(options)) {
      progress.stopped = true;
      return progress;
    }
    LOCKSTEP_ASSIGN_OR_RETURN(const std::vector<LegacyRow> rows,
                              legacy.Scan(progress.last_id, options.last_id, options.batch_rows));
    if (rows.empty()) return progress;
    const std::vector<ModernRow> mapped = MapBatch(rows, options.mapper, &progress);
    LOCKSTEP_ASSIGN_OR_RETURN(const int64_t applied, modern.ApplyBatchIfNewer(mapped));
    progress.rows_read += static_cast<int64_t>(rows.size());
    progress.rows_applied += applied;
    progress.rows_newer += static_cast<int64_t>(mapped.size()) - applied;
    progress.last_id = rows.back().id;
    if (options.on_progress) options.on_progress(progress);
    WaitForRate(options, started, progress.rows_read);
  }
}

}  // namespace lockstep::examples
