// Field-wise comparison of two records under a migration's contract.
//
// A service turns its record into a RecordView: (path, value) pairs with the contract's canonical paths.
//
//   RecordView FieldsOf(const Order& order) {
//     return {{"id", order.id}, {"total", order.total}, {"tags", FieldValue::List({"new", "gift"})}};
//   }
//   Comparison c = CompareRecords(FieldsOf(from_old), FieldsOf(from_new), contract);
//
// Pure functions over values; thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/domain/contract.h"
#include "core/domain/window_stats.h"

namespace lockstep {

// Null, bool, whole number, floating-point number, string or list.
class FieldValue {
 public:
  using ListType = std::vector<FieldValue>;

  FieldValue() = default;                                        // null
  FieldValue(std::nullptr_t) {}                                  // NOLINT: literals should read naturally
  FieldValue(bool value) : value_(value) {}                      // NOLINT
  FieldValue(int value) : value_(int64_t{value}) {}              // NOLINT
  FieldValue(int64_t value) : value_(value) {}                   // NOLINT
  FieldValue(double value) : value_(value) {}                    // NOLINT
  FieldValue(const char* value) : value_(std::string(value)) {}  // NOLINT
  FieldValue(std::string value) : value_(std::move(value)) {}    // NOLINT
  FieldValue(absl::string_view value) : value_(std::string(value)) {}  // NOLINT
  static FieldValue List(ListType values) {
    FieldValue list;
    list.value_ = std::move(values);
    return list;
  }

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  // Null unless the value is of that type.
  const bool* as_bool() const { return std::get_if<bool>(&value_); }
  const int64_t* as_int() const { return std::get_if<int64_t>(&value_); }
  const double* as_double() const { return std::get_if<double>(&value_); }
  const std::string* as_string() const { return std::get_if<std::string>(&value_); }
  const ListType* as_list() const { return std::get_if<ListType>(&value_); }

  // A text form, the same for equal values: what digests and lengths are taken of. Strings are their own
  // bytes, null is empty, numbers are the shortest text that reads back as the same number, lists prefix each
  // element with its length.
  std::string Canonical() const;

  // Same type and same value; 1 and 1.0 differ here (CompareRecords treats them as equal numbers).
  bool operator==(const FieldValue&) const = default;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, ListType> value_;
};

// Order carries no meaning. Each path at most once; of repeated ones the first counts.
using RecordView = std::vector<std::pair<std::string, FieldValue>>;

// One field in which two records differ.
struct FieldDifference {
  std::string path;
  domain::MismatchKind kind = domain::MismatchKind::kValue;
  bool declared = false;   // the contract has a rule for the path
  bool sensitive = false;  // as in the rule
  // Canonical forms; empty when the side lacks the field.
  std::string old_canonical;
  std::string new_canonical;
};

struct Comparison {
  // kMatch, kMismatch, kIgnored, kMissingInNew or kMissingInOld.
  domain::ComparisonOutcome outcome = domain::ComparisonOutcome::kMatch;
  // By path, each once; without the ignored ones. Empty unless kMismatch.
  std::vector<FieldDifference> differences;
};

// Rules, per field:
// - `ignore`: a difference makes the outcome kIgnored, if nothing else differs.
// - `has_default`: an absent or null value counts as the default, read as the type of the other side's value.
// - numbers are equal when |old - new| <= tolerance, whole or not, exactly when the tolerance is 0; NaN
// equals NaN.
// - `list_order`: kUnordered compares lists as multisets. An ordered list with the same elements in another
// order is
//   kOrder; any other difference of lists is kValue.
// - absent on one side: kMissing (on old only) or kExtra (on new only). Null is a value, of a type of its
// own. Fields without a rule are compared strictly.
Comparison CompareRecords(const RecordView& old_record, const RecordView& new_record,
                          const domain::Contract& contract);

// The same when a side may not have the record at all (null). Both null is a match.
Comparison CompareRecords(const RecordView* old_record, const RecordView* new_record,
                          const domain::Contract& contract);

}  // namespace lockstep
