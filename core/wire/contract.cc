#include "core/wire/contract.h"

#include "core/wire/enums.h"

namespace lockstep::wire {
namespace {

constexpr size_t kMaxFieldPathBytes = 256;
constexpr size_t kMaxDefaultValueBytes = 1024;

}  // namespace

v1::Contract ToProto(const domain::Contract& contract) {
  v1::Contract out;
  for (const domain::FieldRule& rule : contract.fields) {
    v1::FieldRule* added = out.add_fields();
    added->set_path(rule.path);
    added->set_old_path(rule.old_path);
    added->set_new_path(rule.new_path);
    added->set_ignore(rule.ignore);
    added->set_tolerance(rule.tolerance);
    if (rule.has_default) added->set_default_value(rule.default_value);
    added->set_list_order(ToProto(rule.list_order));
    added->set_sensitive(rule.sensitive);
  }
  out.set_revision(contract.revision);
  return out;
}

domain::Contract ReadContract(const v1::Contract& contract, const FieldPath& path, Violations& violations) {
  domain::Contract out;
  out.revision = contract.revision();
  out.fields.reserve(contract.fields_size());
  for (int i = 0; i < contract.fields_size(); ++i) {
    const v1::FieldRule& rule = contract.fields(i);
    const FieldPath rule_path = path.At("fields", i);
    domain::FieldRule& added = out.fields.emplace_back();
    added.path = rule.path();
    added.old_path = rule.old_path();
    added.new_path = rule.new_path();
    added.ignore = rule.ignore();
    added.tolerance = rule.tolerance();
    added.has_default = rule.has_default_value();
    added.default_value = rule.default_value();
    added.list_order = ReadEnum(rule.list_order(), rule_path / "list_order", violations);
    added.sensitive = rule.sensitive();
  }
  return out;
}

void CheckContract(const domain::Contract& contract, const FieldPath& path, Violations& violations) {
  CheckCount(path / "fields", contract.fields.size(), {.max = domain::kMaxContractFields}, violations);
  for (size_t i = 0; i < contract.fields.size(); ++i) {
    const domain::FieldRule& rule = contract.fields[i];
    const FieldPath rule_path = path.At("fields", i);
    CheckBytes(rule_path / "path", rule.path.size(), {.min = 1, .max = kMaxFieldPathBytes}, violations);
    CheckBytes(rule_path / "old_path", rule.old_path.size(), {.max = kMaxFieldPathBytes}, violations);
    CheckBytes(rule_path / "new_path", rule.new_path.size(), {.max = kMaxFieldPathBytes}, violations);
    CheckFinite(rule_path / "tolerance", rule.tolerance, violations);
    CheckBytes(rule_path / "default_value", rule.default_value.size(), {.max = kMaxDefaultValueBytes},
               violations);
  }
  violations.AddStatus(domain::ValidateContract(contract), path);
}

}  // namespace lockstep::wire
