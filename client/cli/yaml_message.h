// Maps a YAML node onto a protobuf message by its descriptor; see migration_file.h for the rules.
#pragma once

#include <string>
#include <vector>

#include "client/cli/migration_file.h"
#include "google/protobuf/message.h"
#include "yaml-cpp/yaml.h"

namespace lockstep::cli {

Position PositionOf(const YAML::Mark& mark);

// Fills `message` from `node`, whose path in the API is `path` ("" at the top). Never throws.
void MapYaml(const YAML::Node& node, const std::string& path, google::protobuf::Message* message,
             SourceMap* source, std::vector<Diagnostic>* diagnostics);

}  // namespace lockstep::cli
