// Which codec the engine's tests run with: the program's own where protobuf is available, else one in memory.
#pragma once

#include <memory>

#include "server/store/record_codec.h"

namespace lockstep::engine {

std::unique_ptr<store::RecordCodec> NewCodecUnderTest();

}  // namespace lockstep::engine
