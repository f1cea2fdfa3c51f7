#include "lockstep/comparator.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/check.h"

namespace lockstep {
namespace {

using domain::ComparisonOutcome;
using domain::FieldRule;
using domain::ListOrder;
using domain::MismatchKind;

enum class TypeClass : uint8_t { kNull, kBool, kNumber, kString, kList };

TypeClass TypeOf(const FieldValue& value) {
  if (value.as_bool() != nullptr) return TypeClass::kBool;
  if (value.as_int() != nullptr || value.as_double() != nullptr) return TypeClass::kNumber;
  if (value.as_string() != nullptr) return TypeClass::kString;
  if (value.as_list() != nullptr) return TypeClass::kList;
  return TypeClass::kNull;
}

// Whole numbers of 64 bits fit the 64-bit mantissa of x86's long double; elsewhere it is wider still, or a
// double, whose rounding then decides among numbers beyond 2^53.
long double NumberOf(const FieldValue& value) {
  return value.as_int() != nullptr ? static_cast<long double>(*value.as_int())
                                   : static_cast<long double>(*value.as_double());
}

bool NumbersEqual(const FieldValue& a, const FieldValue& b, double tolerance) {
  const long double x = NumberOf(a);
  const long double y = NumberOf(b);
  if (x == y) return true;  // also equal infinities, whose difference is not a number
  if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y);
  return std::fabs(x - y) <= static_cast<long double>(tolerance);
}

// A total order, so that two multisets can be laid side by side. Among numbers it is the order of their
// values, for which pairing in order is the best pairing under a tolerance.
bool Before(const FieldValue& a, const FieldValue& b) {
  const TypeClass type = TypeOf(a);
  if (type != TypeOf(b)) return type < TypeOf(b);
  switch (type) {
    case TypeClass::kNull:
      return false;
    case TypeClass::kBool:
      return *a.as_bool() < *b.as_bool();
    case TypeClass::kNumber: {
      const long double x = NumberOf(a);
      const long double y = NumberOf(b);
      if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) && std::isnan(y);
      return x < y;
    }
    case TypeClass::kString:
      return *a.as_string() < *b.as_string();
    case TypeClass::kList:
      return std::lexicographical_compare(a.as_list()->begin(), a.as_list()->end(), b.as_list()->begin(),
                                          b.as_list()->end(), Before);
  }
  return false;
}

bool ValuesEqual(const FieldValue& a, const FieldValue& b, double tolerance, ListOrder order);

bool ElementsEqual(const FieldValue::ListType& a, const FieldValue::ListType& b, double tolerance,
                   ListOrder order) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const FieldValue& x, const FieldValue& y) {
    return ValuesEqual(x, y, tolerance, order);
  });
}

// In order, and so are the lists within: equal multisets have equal forms.
FieldValue::ListType Sorted(const FieldValue::ListType& list) {
  FieldValue::ListType sorted;
  sorted.reserve(list.size());
  for (const FieldValue& element : list) {
    sorted.push_back(element.as_list() != nullptr ? FieldValue::List(Sorted(*element.as_list())) : element);
  }
  std::sort(sorted.begin(), sorted.end(), Before);
  return sorted;
}

bool ValuesEqual(const FieldValue& a, const FieldValue& b, double tolerance, ListOrder order) {
  const TypeClass type = TypeOf(a);
  if (type != TypeOf(b)) return false;
  switch (type) {
    case TypeClass::kNull:
      return true;
    case TypeClass::kBool:
      return *a.as_bool() == *b.as_bool();
    case TypeClass::kNumber:
      return NumbersEqual(a, b, tolerance);
    case TypeClass::kString:
      return *a.as_string() == *b.as_string();
    case TypeClass::kList:
      if (order == ListOrder::kOrdered) return ElementsEqual(*a.as_list(), *b.as_list(), tolerance, order);
      return a.as_list()->size() == b.as_list()->size() &&
             ElementsEqual(Sorted(*a.as_list()), Sorted(*b.as_list()), tolerance, ListOrder::kOrdered);
  }
  return false;
}

// `text` as a value of the type of `like`; as a string when it can't be read so, which shows as a type
// mismatch.
FieldValue ParseAs(const std::string& text, const FieldValue& like) {
  switch (TypeOf(like)) {
    case TypeClass::kBool: {
      bool value = false;
      if (absl::SimpleAtob(text, &value)) return FieldValue(value);
      break;
    }
    case TypeClass::kNumber: {
      int64_t whole = 0;
      double number = 0;
      if (absl::SimpleAtoi(text, &whole)) return FieldValue(whole);
      if (absl::SimpleAtod(text, &number)) return FieldValue(number);
      break;
    }
    case TypeClass::kList:
      if (text.empty()) return FieldValue::List({});
      break;
    case TypeClass::kNull:
    case TypeClass::kString:
      break;
  }
  return FieldValue(text);
}

// How the field differs, if it does. Null pointers: the side lacks the field.
std::optional<MismatchKind> Differs(const FieldValue* old_value, const FieldValue* new_value,
                                    const FieldRule& rule) {
  FieldValue old_default;
  FieldValue new_default;
  if (rule.has_default) {
    const auto missing = [](const FieldValue* value) { return value == nullptr || value->is_null(); };
    if (missing(old_value) && missing(new_value)) return std::nullopt;
    if (missing(old_value)) old_value = &(old_default = ParseAs(rule.default_value, *new_value));
    if (missing(new_value)) new_value = &(new_default = ParseAs(rule.default_value, *old_value));
  }
  if (new_value == nullptr) return MismatchKind::kMissing;
  if (old_value == nullptr) return MismatchKind::kExtra;
  if (ValuesEqual(*old_value, *new_value, rule.tolerance, rule.list_order)) return std::nullopt;
  if (TypeOf(*old_value) != TypeOf(*new_value)) return MismatchKind::kType;
  const bool reordered = TypeOf(*old_value) == TypeClass::kList && rule.list_order == ListOrder::kOrdered &&
                         ValuesEqual(*old_value, *new_value, rule.tolerance, ListOrder::kUnordered);
  return reordered ? MismatchKind::kOrder : MismatchKind::kValue;
}

struct FieldPair {
  const FieldValue* old_value = nullptr;
  const FieldValue* new_value = nullptr;
};

}  // namespace

std::string FieldValue::Canonical() const {
  if (const bool* value = as_bool()) return *value ? "true" : "false";
  if (const int64_t* value = as_int()) return absl::StrCat(*value);
  if (const double* value = as_double()) {
    char text[64];
    // Minus zero equals zero.
    const std::to_chars_result end = std::to_chars(text, text + sizeof(text), *value == 0 ? 0.0 : *value);
    LOCKSTEP_CHECK(end.ec == std::errc(), "64 characters hold every double");
    return std::string(text, end.ptr);
  }
  if (const std::string* value = as_string()) return *value;
  std::string text;
  if (const ListType* list = as_list()) {
    for (const FieldValue& element : *list) {
      const std::string canonical = element.Canonical();
      absl::StrAppend(&text, canonical.size(), ":", canonical);
    }
  }
  return text;
}

Comparison CompareRecords(const RecordView& old_record, const RecordView& new_record,
                          const domain::Contract& contract) {
  // Nearly all are. Equal in every value and in order, so no rule can tell them apart.
  if (old_record == new_record) return Comparison();
  std::map<absl::string_view, FieldPair> fields;
  for (const auto& [path, value] : old_record) {
    FieldPair& field = fields[path];
    if (field.old_value == nullptr) field.old_value = &value;
  }
  for (const auto& [path, value] : new_record) {
    FieldPair& field = fields[path];
    if (field.new_value == nullptr) field.new_value = &value;
  }
  absl::flat_hash_map<absl::string_view, const FieldRule*> rules;
  for (const FieldRule& rule : contract.fields) rules.emplace(rule.path, &rule);

  static const FieldRule* const kStrict = new FieldRule;
  Comparison result;
  for (const auto& [path, field] : fields) {
    const auto found = rules.find(path);
    const FieldRule& rule = found == rules.end() ? *kStrict : *found->second;
    const std::optional<MismatchKind> kind = Differs(field.old_value, field.new_value, rule);
    if (!kind.has_value()) continue;
    if (rule.ignore) {
      if (result.outcome == ComparisonOutcome::kMatch) result.outcome = ComparisonOutcome::kIgnored;
      continue;
    }
    result.outcome = ComparisonOutcome::kMismatch;
    result.differences.push_back(
        {.path = std::string(path),
         .kind = *kind,
         .declared = found != rules.end(),
         .sensitive = rule.sensitive,
         .old_canonical = field.old_value == nullptr ? "" : field.old_value->Canonical(),
         .new_canonical = field.new_value == nullptr ? "" : field.new_value->Canonical()});
  }
  return result;
}

Comparison CompareRecords(const RecordView* old_record, const RecordView* new_record,
                          const domain::Contract& contract) {
  if (old_record != nullptr && new_record != nullptr)
    return CompareRecords(*old_record, *new_record, contract);
  Comparison result;
  if (old_record != nullptr) result.outcome = ComparisonOutcome::kMissingInNew;
  if (new_record != nullptr) result.outcome = ComparisonOutcome::kMissingInOld;
  return result;
}

}  // namespace lockstep
