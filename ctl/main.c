/* wavryctl; see ctl.h. */
#include "ctl/ctl.h"

int main(int argc, char **argv)
{
    return wv_ctl_main(argc, argv, stdout, stderr);
}
