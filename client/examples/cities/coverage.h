// Tells Lockstep how far a backfill has come (METRIC_COVERAGE), as an instance of a service of its own,
// "cities-backfill", which the plan does not expect: while the worker is enrolled, its guard keeps reads from
// moving to the new side. A worker that was killed stays enrolled until it is run again under the same
// instance id, or is evicted.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/examples/cities/backfill.h"
#include "lockstep/client.h"

namespace lockstep::examples {

struct CoverageOptions {
  std::shared_ptr<Transport> transport;  // to lockstepd
  std::string migration = "demo/cities";
  std::string instance_id = "cities-backfill";
};

// Not thread-safe. One for each run of a backfill.
class CoverageReport {
 public:
  // Enrols and waits for the migration's state. Errors are those of the client, and FAILED_PRECONDITION if
  // the control plane doesn't know the migration.
  static absl::StatusOr<std::unique_ptr<CoverageReport>> Begin(CoverageOptions options);

  // Before the first row is copied: how many rows there are. A run that goes on where another one stopped
  // takes on nothing, because that one has, and leaves this out.
  void TakeOn(int64_t rows);
  // What was copied since the last call. Rows beyond those taken on have come meanwhile, and count as taken
  // on now, if any were.
  void Progress(const BackfillProgress& progress);
  // Sends what is left and gives the enrolment up. FAILED_PRECONDITION if the migration was started anew
  // meanwhile: what was copied before that counts for nothing, so run the backfill again.
  absl::Status Finish();

 private:
  CoverageReport() = default;
  void Report(int64_t to_copy, int64_t copied);

  std::unique_ptr<Client> client_;
  std::string migration_;
  uint64_t generation_ = 0;
  int64_t taken_on_ = 0;
  int64_t copied_ = 0;
  absl::Status status_;
};

}  // namespace lockstep::examples
