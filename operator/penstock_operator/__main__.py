"""`penstock-operator`: runs the operator in this process until a signal."""

import asyncio
import logging
import os
import sys

from penstock_operator import app, cluster, dispatcher_link, hub, leader, settings

logger = logging.getLogger("penstock_operator")


def main() -> None:
    """Read flags and environment, run, exit."""
    config = settings.read(sys.argv[1:], os.environ)
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    if config.log_level != "debug":
        # Kopf tells of every watch and object; what goes wrong is a warning.
        logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        code = asyncio.run(app.run(config))
    except cluster.NotFound as error:
        logger.error(  # noqa: TRY400  a traceback tells people nothing here
            "the WorkerPool resource is not installed (apply the chart's CRD): %s", error
        )
        code = 1
    except hub.NamespaceCame as news:
        logger.info("%s", news)
        code = 1
    except (cluster.ApiError, leader.Lost, dispatcher_link.Deposed) as error:
        logger.error("%s", error)  # noqa: TRY400  nor here
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
