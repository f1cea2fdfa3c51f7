// One record on both sides, as the service's callbacks give access to it: what repairs, queued mirrors and
// slice checks need, without the record's type.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/comparator.h"
#include "lockstep/migrator_types.h"

namespace lockstep::internal {

// A record as one side has it.
struct SideRow {
  std::optional<Version> version;    // nothing: the side can't be asked for it
  std::optional<RecordView> fields;  // nothing: deleted, or never was
  bool operator==(const SideRow&) const = default;
};

// What became of copying a record from one side to the other.
struct CopyResult {
  absl::Status read = {};
  absl::Status mirrored = {};  // if the read was OK
  bool existed = false;        // false: the record never was, so there was nothing to mirror
};

// Thread-safe. Outlives the call it was made in. Each method calls the service's code and may block until the
// context's deadline.
class RecordAccess {
 public:
  virtual ~RecordAccess() = default;

  virtual bool HasCurrent(domain::Side side) const = 0;
  virtual bool HasMirror(domain::Side side) const = 0;
  // Whether MirrorKnown can be called: the result of the write is known.
  virtual bool HasKnown() const = 0;
  // Mirrors what the write resulted in, to `to.side`.
  virtual absl::Status MirrorKnown(const WriteContext& to) const = 0;
  // Mirrors what `from.side` has now, to `to.side`; needs HasCurrent.
  virtual CopyResult MirrorCurrent(const ReadContext& from, const WriteContext& to) const = 0;
  // By CurrentOld or CurrentNew where given, else by a read.
  virtual absl::StatusOr<SideRow> Row(const ReadContext& from) const = 0;
};

}  // namespace lockstep::internal
