#include "client/cli/yaml_message.h"

#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/text.h"
#include "core/wire/timestamps.h"
#include "google/protobuf/duration.pb.h"

namespace lockstep::cli {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr absl::string_view kDurationType = "google.protobuf.Duration";

// How the text of a number is read; the descriptor alone doesn't say that 5 is a weight.
enum class NumberForm { kPlain, kWeight, kRatio, kQuantile, kLimit };

NumberForm FormOf(const FieldDescriptor& field) {
  static const auto* const kForms = new std::map<absl::string_view, NumberForm>{
      {"lockstep.v1.PlanStep.weight", NumberForm::kWeight},
      {"lockstep.v1.CutoverLimits.slice_weight", NumberForm::kWeight},
      {"lockstep.v1.Check.budget", NumberForm::kRatio},
      {"lockstep.v1.Check.floor", NumberForm::kRatio},
      {"lockstep.v1.Check.quantile", NumberForm::kQuantile},
      {"lockstep.v1.Check.limit", NumberForm::kLimit},
      {"lockstep.v1.TelemetryLimits.max_not_comparable", NumberForm::kRatio},
      {"lockstep.v1.Plan.alpha_rollback", NumberForm::kRatio},
      {"lockstep.v1.Plan.alpha_advance", NumberForm::kRatio},
  };
  const auto found = kForms->find(field.full_name());
  return found == kForms->end() ? NumberForm::kPlain : found->second;
}

// Fields that only the server sets. The API calls them "Output only" in comments, which descriptors do not
// carry.
bool OutputOnly(const FieldDescriptor& field) {
  static const auto* const kFields = new std::set<absl::string_view>{
      "lockstep.v1.Migration.uid",
      "lockstep.v1.Migration.etag",
      "lockstep.v1.Migration.run_state",
      "lockstep.v1.Migration.run_state_reason",
      "lockstep.v1.Migration.step",
      "lockstep.v1.Migration.step_start_time",
      "lockstep.v1.Migration.routing",
      "lockstep.v1.Migration.pending_routing",
      "lockstep.v1.Migration.pending_since",
      "lockstep.v1.Migration.waiting_for",
      "lockstep.v1.Migration.gate",
      "lockstep.v1.Migration.create_time",
      "lockstep.v1.Migration.update_time",
      "lockstep.v1.Migration.deadline_time",
      "lockstep.v1.Migration.reversible",
      "lockstep.v1.Contract.revision",
      "lockstep.v1.Migration.waiting_for_count",
      "lockstep.v1.Migration.differing_records",
  };
  return kFields->count(field.full_name()) > 0;
}

absl::StatusOr<double> ReadDouble(const FieldDescriptor& field, const std::string& text) {
  double value = 0;
  switch (FormOf(field)) {
    case NumberForm::kRatio:
      return ParseRatio(text);
    case NumberForm::kQuantile:
      return ParseQuantile(text);
    case NumberForm::kLimit:
      // A share or a number, as the metric has it.
      if (const auto ratio = ParseRatio(text); ratio.ok()) return ratio;
      return absl::InvalidArgumentError(
          absl::StrCat("must be a number, or a share like \"99.9%\"; found \"", text, "\""));
    case NumberForm::kPlain:
    case NumberForm::kWeight:
      if (absl::SimpleAtod(text, &value) && std::isfinite(value)) return value;
      return absl::InvalidArgumentError(absl::StrCat("must be a number; found \"", text, "\""));
  }
  return value;
}

std::vector<std::string> WritableFields(const Descriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) {
    if (!OutputOnly(*type.field(i))) names.push_back(type.field(i)->name());
  }
  return names;
}

absl::string_view KindName(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      return "nothing";
    case YAML::NodeType::Scalar:
      return "a single value";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a mapping";
  }
  return "";
}

class Mapper {
 public:
  Mapper(SourceMap* source, std::vector<Diagnostic>* diagnostics)
      : source_(source), diagnostics_(diagnostics) {}

  void MapMessage(const YAML::Node& node, const std::string& path, Message* message) {
    const Descriptor& type = *message->GetDescriptor();
    if (!node.IsMap()) {
      Error(node.Mark(),
            absl::StrCat(path.empty() ? "the document" : path, " must be a mapping with the fields ",
                         absl::StrJoin(WritableFields(type), ", "), "; found ", KindName(node)));
      return;
    }
    KeyChecker keys(this, path);
    for (const auto& entry : node) {
      const auto key = keys.Next(entry.first);
      if (!key) continue;
      const FieldDescriptor* field = FindField(type, *key);
      if (field == nullptr) {
        UnknownField(entry.first.Mark(), type, *key, path);
        continue;
      }
      const std::string field_path = path.empty() ? field->name() : absl::StrCat(path, ".", field->name());
      // steps and minBake name the same field as min_bake: the spelling must not hide a duplicate.
      if (!keys.Claim(field->name(), entry.first.Mark())) continue;
      if (OutputOnly(*field)) {
        Error(entry.first.Mark(), absl::StrCat("`", *key, "` is set by the server: remove it"));
        continue;
      }
      // A single value is reported where it stands, a block or nothing where its key stands.
      const bool block = field->is_repeated() || field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
      const bool at_value = entry.second.IsScalar() || (!block && !entry.second.IsNull());
      source_->Add(field_path, PositionOf(at_value ? entry.second.Mark() : entry.first.Mark()));
      MapField(entry.first.Mark(), entry.second, field_path, *field, message);
    }
  }

 private:
  // Keys of one mapping: text, and each only once.
  class KeyChecker {
   public:
    KeyChecker(Mapper* mapper, const std::string& path) : mapper_(mapper), path_(path) {}

    std::optional<std::string> Next(const YAML::Node& key) {
      if (key.IsScalar()) return key.Scalar();
      mapper_->Error(key.Mark(), absl::StrCat("a field name must be text; found ", KindName(key)));
      return std::nullopt;
    }
    bool Claim(const std::string& name, const YAML::Mark& mark) {
      const auto [first, inserted] = seen_.emplace(name, PositionOf(mark));
      if (!inserted) {
        mapper_->Error(mark, absl::StrCat("`", name, "` is given twice", path_.empty() ? "" : " in ", path_,
                                          "; first on line ", first->second.line));
      }
      return inserted;
    }

   private:
    Mapper* const mapper_;
    const std::string path_;
    std::map<std::string, Position> seen_;
  };

  void Error(const YAML::Mark& mark, std::string message) {
    diagnostics_->push_back({Severity::kError, PositionOf(mark), std::move(message)});
  }

  static const FieldDescriptor* FindField(const Descriptor& type, const std::string& key) {
    const FieldDescriptor* field = type.FindFieldByName(key);
    return field != nullptr ? field : type.FindFieldByCamelcaseName(key);
  }

  void UnknownField(const YAML::Mark& mark, const Descriptor& type, const std::string& key,
                    const std::string& path) {
    const std::vector<std::string> known = WritableFields(type);
    const std::string nearest = Nearest(key, known);
    Error(mark, absl::StrCat("unknown field `", key, "`", path.empty() ? "" : " in ", path, ": ",
                             nearest.empty() ? "known are " + absl::StrJoin(known, ", ")
                                             : absl::StrCat("did you mean `", nearest, "`?")));
  }

  void MapField(const YAML::Mark& key_mark, const YAML::Node& node, const std::string& path,
                const FieldDescriptor& field, Message* message) {
    if (node.IsNull()) {
      Error(key_mark, absl::StrCat("`", field.name(), "` has no value: give one or remove the line"));
      return;
    }
    if (field.is_map()) {
      MapStringMap(node, path, field, message);
    } else if (field.is_repeated()) {
      MapList(node, path, field, message);
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Message* child = message->GetReflection()->MutableMessage(message, &field);
      if (field.message_type()->full_name() == kDurationType) {
        MapDuration(node, field.name(), child);
      } else {
        MapMessage(node, path, child);
      }
    } else {
      MapScalar(node, field, message);
    }
  }

  // The API's only map type is map<string, string>.
  void MapStringMap(const YAML::Node& node, const std::string& path, const FieldDescriptor& field,
                    Message* message) {
    if (!node.IsMap()) {
      Error(node.Mark(), absl::StrCat("`", field.name(), "` must be a mapping of names to values; found ",
                                      KindName(node)));
      return;
    }
    KeyChecker keys(this, path);
    for (const auto& entry : node) {
      const auto key = keys.Next(entry.first);
      if (!key || !keys.Claim(*key, entry.first.Mark())) continue;
      source_->Add(absl::StrCat(path, "[\"", *key, "\"]"), PositionOf(entry.first.Mark()));
      if (!entry.second.IsScalar()) {
        Error(entry.first.Mark(),
              absl::StrCat("the value of `", *key, "` must be text; found ", KindName(entry.second)));
        continue;
      }
      Message* pair = message->GetReflection()->AddMessage(message, &field);
      pair->GetReflection()->SetString(pair, field.message_type()->map_key(), *key);
      pair->GetReflection()->SetString(pair, field.message_type()->map_value(), entry.second.Scalar());
    }
  }

  void MapList(const YAML::Node& node, const std::string& path, const FieldDescriptor& field,
               Message* message) {
    if (!node.IsSequence()) {
      Error(node.Mark(),
            absl::StrCat("`", field.name(), "` must be a list (lines that start with \"- \"); found ",
                         KindName(node)));
      return;
    }
    size_t index = 0;
    for (const YAML::Node& item : node) {
      const std::string item_path = absl::StrCat(path, "[", index++, "]");
      source_->Add(item_path, PositionOf(item.Mark()));
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        MapMessage(item, item_path, message->GetReflection()->AddMessage(message, &field));
      } else if (item.IsScalar() && field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        message->GetReflection()->AddString(message, &field, item.Scalar());
      } else {
        Error(item.Mark(), absl::StrCat(item_path, " must be text; found ", KindName(item)));
      }
    }
  }

  void MapDuration(const YAML::Node& node, const std::string& name, Message* message) {
    const auto duration = node.IsScalar()
                              ? cli::ParseDuration(node.Scalar())
                              : absl::InvalidArgumentError(absl::StrCat(
                                    "must be a duration like \"30s\" or \"1h30m\"; found ", KindName(node)));
    if (!duration.ok()) {
      Error(node.Mark(), absl::StrCat("`", name, "`: ", duration.status().message()));
      return;
    }
    message->CopyFrom(wire::ToProto(*duration));
  }

  void MapScalar(const YAML::Node& node, const FieldDescriptor& field, Message* message) {
    const auto wrong = [&](absl::string_view why) {
      Error(node.Mark(), absl::StrCat("`", field.name(), "`: ", why));
    };
    if (!node.IsScalar()) return wrong(absl::StrCat("must be a single value; found ", KindName(node)));
    const std::string& text = node.Scalar();
    const Reflection& reflection = *message->GetReflection();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        return reflection.SetString(message, &field, text);
      case FieldDescriptor::CPPTYPE_BOOL:
        if (text != "true" && text != "false")
          return wrong(absl::StrCat("must be true or false; found \"", text, "\""));
        return reflection.SetBool(message, &field, text == "true");
      case FieldDescriptor::CPPTYPE_ENUM:
        return MapEnum(node, field, message);
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        const auto value = ReadDouble(field, text);
        if (!value.ok()) return wrong(value.status().message());
        return reflection.SetDouble(message, &field, *value);
      }
      case FieldDescriptor::CPPTYPE_UINT32: {
        uint32_t value = 0;
        if (FormOf(field) == NumberForm::kWeight) {
          const auto weight = ParseWeight(text);
          if (!weight.ok()) return wrong(weight.status().message());
          value = *weight;
          WarnOfFewBuckets(node, field.name(), value);
        } else if (!absl::SimpleAtoi(text, &value)) {
          return wrong(absl::StrCat("must be a whole number from 0 to 4294967295; found \"", text, "\""));
        }
        return reflection.SetUInt32(message, &field, value);
      }
      case FieldDescriptor::CPPTYPE_INT32:
      case FieldDescriptor::CPPTYPE_INT64:
      case FieldDescriptor::CPPTYPE_UINT64:
      case FieldDescriptor::CPPTYPE_FLOAT:
      case FieldDescriptor::CPPTYPE_MESSAGE:
        // No field that a person may set has these types; a new one gets its case with its first test.
        return wrong("can't be given in a file");
    }
  }

  void MapEnum(const YAML::Node& node, const FieldDescriptor& field, Message* message) {
    const auto* value = FindEnumValue(*field.enum_type(), node.Scalar());
    if (value != nullptr) {
      message->GetReflection()->SetEnum(message, &field, value);
      return;
    }
    // Stages are spelt as on the ladder, everything else in lower case.
    const bool lower = field.enum_type()->name() != "Stage";
    Error(node.Mark(),
          absl::StrCat("`", field.name(), "`: unknown value \"", node.Scalar(), "\": allowed are ",
                       absl::StrJoin(EnumNames(*field.enum_type(), lower), ", ")));
  }

  void WarnOfFewBuckets(const YAML::Node& node, const std::string& field, uint32_t weight) {
    if (weight == 0 || weight > 100 || node.Scalar().find('%') != std::string::npos) return;
    diagnostics_->push_back(
        {Severity::kWarning, PositionOf(node.Mark()),
         absl::StrCat("`", field, "`: ", weight, " without a \"%\" counts buckets and means ",
                      FormatWeight(weight), "; write \"", weight, "%\" for a percentage")});
  }

  SourceMap* const source_;
  std::vector<Diagnostic>* const diagnostics_;
};

}  // namespace

Position PositionOf(const YAML::Mark& mark) {
  return mark.is_null() ? Position{} : Position{mark.line + 1, mark.column + 1};
}

void MapYaml(const YAML::Node& node, const std::string& path, google::protobuf::Message* message,
             SourceMap* source, std::vector<Diagnostic>* diagnostics) {
  Mapper(source, diagnostics).MapMessage(node, path, message);
}

}  // namespace lockstep::cli
