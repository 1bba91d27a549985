from .collect import Run as Run
from .collect import Sample as Sample
from .collect import collect as collect
from .figures.files import write_figures as write_figures
from .options import FigureFormat as FigureFormat
from .overlay import Layer as Layer
from .overlay import write_overlay as write_overlay
from .page import write_report as write_report
