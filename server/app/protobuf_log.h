// Where protobuf's own messages go.
#pragma once

namespace lockstep::app {

// Sends what protobuf has to say to the log (core/base/log.h), bounded: parsing a string that is not UTF-8
// makes it print a line, which would let any client flood standard error. Warnings and errors are told once a
// minute at most, with how many were not; the others not at all. For the start of main.
void InstallProtobufLogHandler();

}  // namespace lockstep::app
