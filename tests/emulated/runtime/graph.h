/* What a program holds of a graph. */

#pragma once

#include "emulated.h"

struct Handle { // of a graph, or of one that can be launched
    std::shared_ptr<Graph> graph;
};
