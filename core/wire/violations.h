// What is wrong with an input, field by field, so that one reply names all of it.
//
//   Violations violations;
//   const FieldPath root;
//   const FieldPath plan = root / "plan";
//   for (int i = 0; i < n; ++i) {
//     const FieldPath step = plan.At("steps", i);
//     CheckLength(step / "name", steps(i).name(), {.max = 63}, violations);   // "plan.steps[2].name"
//   }
//   return violations.ToStatus();
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/base/error_info.h"

namespace lockstep::wire {

// Where a field is, as a chain of parts that becomes text only when something is wrong: a batch has thousands
// of fields. A path points at its parent, and at the text of its name: both must outlive it, so `a / "b" /
// "c"` is for use within one expression only.
class FieldPath {
 public:
  // The message itself.
  FieldPath() = default;

  FieldPath operator/(absl::string_view field) const { return FieldPath(this, field, Kind::kField); }
  FieldPath At(absl::string_view field, size_t index) const {
    FieldPath path(this, field, Kind::kElement);
    path.index_ = index;
    return path;
  }
  FieldPath At(absl::string_view field, absl::string_view key) const {
    FieldPath path(this, field, Kind::kMapValue);
    path.key_ = key;
    return path;
  }

  // "plan.steps[2].weight", "labels[\"team\"]"; empty for the message itself.
  std::string ToString() const;

 private:
  enum class Kind { kRoot, kField, kElement, kMapValue };

  FieldPath(const FieldPath* parent, absl::string_view field, Kind kind)
      : parent_(parent), field_(field), kind_(kind) {}

  const FieldPath* parent_ = nullptr;
  absl::string_view field_;
  Kind kind_ = Kind::kRoot;
  size_t index_ = 0;
  absl::string_view key_;
};

// Keeps the first violation of each field, and at most kMost of them: whoever sent thousands of wrong fields
// made one mistake.
class Violations {
 public:
  static constexpr size_t kMost = 100;

  // `path` as FieldPath::ToString writes it.
  void Add(std::string path, absl::string_view description);
  void Add(const FieldPath& path, absl::string_view description) { Add(path.ToString(), description); }
  // Takes a status of the form "field.path: what is wrong", as core/domain makes them; text without a path is
  // put under `fallback`. OK adds nothing.
  void AddStatus(const absl::Status& status, const FieldPath& fallback);

  // Takes over the violations of an InvalidArgumentWithViolations.
  void AddAll(const absl::Status& status);

  bool empty() const { return violations_.empty(); }
  const std::vector<FieldViolation>& list() const { return violations_; }
  // OK when empty, else INVALID_ARGUMENT with all of them (core/base/error_info.h).
  absl::Status ToStatus() const;

 private:
  std::vector<FieldViolation> violations_;
  absl::flat_hash_set<std::string> paths_;
};

// In characters, that is code points.
struct LengthLimits {
  size_t min = 0;
  size_t max = std::numeric_limits<size_t>::max();
};

// All of these add a violation and return false when `value` is outside the limits.
bool CheckLength(const FieldPath& path, absl::string_view value, LengthLimits limits, Violations& violations);
bool CheckBytes(const FieldPath& path, size_t bytes, LengthLimits limits, Violations& violations);
bool CheckCount(const FieldPath& path, size_t count, LengthLimits limits, Violations& violations);
// Of an instance or an identifier of the same kind: 1 to 128 characters of [A-Za-z0-9._:-].
bool CheckInstanceId(const FieldPath& path, absl::string_view value, Violations& violations);
// Not NaN, not infinite.
bool CheckFinite(const FieldPath& path, double value, Violations& violations);
// Hexadecimal digits of either case, of a length within `limits`.
bool CheckHex(const FieldPath& path, absl::string_view value, LengthLimits limits, Violations& violations);

}  // namespace lockstep::wire
