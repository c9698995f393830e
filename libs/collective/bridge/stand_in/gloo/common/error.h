// Stand-in for gloo's header: see gloo/context.h.
#pragma once
#include <gloo/context.h>
